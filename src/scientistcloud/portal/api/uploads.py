"""Resumable uploads: tus 1.0 with creation, termination, expiration, checksum and concatenation; raw ASGI.

Who asks is found out first, then each header is checked, then the body is read. Headers that a client sends are
never copied out, save ``Upload-Metadata``, which comes back as it was sent. What is wrong in passing is a 5xx: on
a 4xx clients throw away what they know for going on. See docs/decisions/0050.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from http import HTTPStatus
from typing import cast
from urllib.parse import quote

from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from scientistcloud.access.rules import Action
from scientistcloud.errors import InvalidParameters, NotFound, ScientistCloudError, TooLarge, Unavailable
from scientistcloud.portal.api.upload_forms import MEDIA_TYPE, FormExchange
from scientistcloud.portal.dependencies import SAFE_METHODS, authorise, find_dataset
from scientistcloud.portal.exchange import Refused, answered, send_answer
from scientistcloud.portal.files import file_answer
from scientistcloud.portal.gathering import Gathering
from scientistcloud.portal.guards import FILE_POLICY
from scientistcloud.portal.reception import GROWTH_BYTES, End, Reception, whole_body
from scientistcloud.portal.turns import Turns
from scientistcloud.portal.tus import ALLOWED, VERSION, Mismatch, TusExchange
from scientistcloud.records import Person
from scientistcloud.uploads import metadata
from scientistcloud.uploads.batch import LARGEST_BYTES
from scientistcloud.uploads.checksum import Checksum
from scientistcloud.uploads.parts import FINAL, parts_named
from scientistcloud.uploads.processor import UploadProcessor
from scientistcloud.uploads.receiving import SmallFile
from scientistcloud.uploads.record import DATA, PARTIAL, Upload
from scientistcloud.uploads.session import Writing
from scientistcloud.uploads.telling import tell

# So long a request waits for its parts to be put together; then it is answered, and they are put together behind.
_ASSEMBLY_SECONDS = 10.0


class Uploads:
    """The endpoint. The app's state has the `UploadProcessor` as `processor`."""

    def __init__(self) -> None:
        # Of its own: writing never waits for the pages' threads, nor they for it.
        self._threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="uploads")
        self._digests = ThreadPoolExecutor(max_workers=1, thread_name_prefix="digests")
        # One: who asks for the same again waits for it, and finds it done.
        self._assembling = ThreadPoolExecutor(max_workers=1, thread_name_prefix="assembling")
        self._turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _is_form(scope):
            response = await answered(FormExchange(scope, receive, self._threads).respond)
        else:
            exchange = _UploadExchange(
                scope, receive, self._threads, self._digests, self._assembling, turns=self._turns
            )
            response = await answered(exchange.respond)
            response.headers["Tus-Resumable"] = VERSION
        response.headers["Cache-Control"] = "no-store"
        await send_answer(response, scope, receive, send)


def _is_form(scope: Scope) -> bool:
    content_type = Headers(scope=scope).get("content-type", "")
    return scope["method"] == "POST" and not scope["path_params"] and content_type.startswith(MEDIA_TYPE)


class _UploadExchange(TusExchange):
    """One request and its answer."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        threads: Executor,
        digests: Executor,
        assembling: Executor,
        *,
        turns: Turns,
    ) -> None:
        super().__init__(scope, receive, threads)
        self.digests = digests
        self.assembling = assembling
        upload_id = scope.get("path_params", {}).get("upload_id")
        self.turn = None if upload_id is None else turns.next(upload_id)

    async def respond(self) -> Response:
        method = self.headers.get("x-http-method-override", self.scope["method"])
        person = await self.in_thread(authorise, self.scope, unsafe=method not in SAFE_METHODS)
        if method == "OPTIONS":
            return self.options()
        self.require_plain()
        if method != "GET" and self.headers.get("tus-resumable") != VERSION:
            raise Refused(
                HTTPStatus.PRECONDITION_FAILED,
                f"this server speaks tus {VERSION}; send the header Tus-Resumable: {VERSION}",
                {"Tus-Version": VERSION},
            )
        upload_id = self.scope.get("path_params", {}).get("upload_id")
        match method, upload_id:
            case "POST", None:
                return await self.create(person)
            case (("HEAD" | "PATCH" | "GET" | "DELETE"), str()):
                upload = await self.in_thread(self.find, person, upload_id)
                methods = {"HEAD": self.head, "PATCH": self.patch, "GET": self.get, "DELETE": self.delete}
                return await methods[method](upload)
        raise Refused(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "uploads are opened by POST /api/uploads/ and sent by PATCH to the address in its Location",
            {"Allow": ALLOWED},
        )

    # -- the methods -----------------------------------------------------------------------------

    async def create(self, person: Person) -> Response:
        concat = self.headers.get("upload-concat", "").strip()
        if concat.startswith(FINAL):
            return await self.concatenate(person, concat)
        if concat not in ("", PARTIAL):
            raise InvalidParameters(
                f"Upload-Concat is {concat[:60]!r}; send `partial`, or `final;` and the addresses of the parts"
            )
        length_bytes = self.declared_length()
        header = self.headers.get("upload-metadata", "")
        # A part may have any metadata, or none: what is made of it is said with the whole.
        request = None if concat else metadata.request_of(header)
        body_bytes, checksum = self.body_bytes(), self.checksum()
        if body_bytes != 0:
            self.require_content_type()
            if length_bytes is not None:
                self.require_fits(body_bytes or 0, length_bytes)
        # All of a file, into a data set that is there: nobody knows of it before the answer to all.
        at_once = request is not None and body_bytes == length_bytes and request.dataset_uuid is not None
        if at_once and length_bytes is not None and length_bytes <= LARGEST_BYTES:
            assert request is not None
            return await self.create_small(person, request, length_bytes, checksum)
        if request is None:
            upload = await self.in_thread(
                self.processor.open_part, user=person.email, length_bytes=length_bytes, metadata=header
            )
        else:
            upload = await self.in_thread(self.open, person, request, length_bytes, durable=not at_once)
        headers = self.opened(upload)
        if body_bytes != 0:
            upload = await self.receive_into(upload, checksum=checksum, durable=not at_once)
        elif upload.complete:
            await self.complete(upload)
        return Response(status_code=HTTPStatus.CREATED, headers=headers | self.progress(upload))

    async def create_small(
        self, person: Person, request: metadata.Request, length_bytes: int, checksum: Checksum | None
    ) -> Response:
        """A small file with the request that opens its upload, which needs no folder then."""
        dataset_uuid = await self.in_thread(self.require_takes, person, request, length_bytes)
        content = await whole_body(self.body, length_bytes)
        if checksum is not None:
            checksum.computed.update(content)
            if not checksum.holds:
                raise Mismatch
        gathering: Gathering = self.scope["app"].state.gathering
        upload = await gathering.take(
            SmallFile(
                dataset_uuid=dataset_uuid,
                user=person.email,
                path=request.path,
                content=content,
                metadata=request.raw,
            )
        )
        return Response(status_code=HTTPStatus.CREATED, headers=self.opened(upload) | self.progress(upload))

    async def concatenate(self, person: Person, concat: str) -> Response:
        """Open the whole that is made of the parts; they are put together behind the answer, if it takes long."""
        if "upload-length" in self.headers or "upload-defer-length" in self.headers:
            raise InvalidParameters("the length of a whole is that of its parts; leave Upload-Length out")
        request = metadata.request_of(self.headers.get("upload-metadata", ""))
        parts = await self.in_thread(parts_named, self.processor.uploads, concat, user=person.email)
        length_bytes = sum(part.length_bytes or 0 for part in parts)
        upload = await self.in_thread(self.open, person, request, length_bytes, concat=concat, parts=parts)
        await self.assembled(upload)
        return Response(status_code=HTTPStatus.CREATED, headers=self.opened(upload))

    async def assembled(self, upload: Upload) -> None:
        """Wait a while until the parts of the upload are put together; it goes on without us."""
        work = asyncio.get_running_loop().run_in_executor(
            self.assembling, partial(_put_together, self.processor, upload)
        )
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(work), _ASSEMBLY_SECONDS)

    async def head(self, upload: Upload) -> Response:
        if upload.complete:
            upload = await self.complete(upload)  # where an earlier request was cut off before it was done
        elif upload.parts:
            await self.assembled(upload)
            upload = await self.in_thread(self.processor.known, upload.upload_id)
        headers = self.progress(upload)
        if upload.parts and not upload.complete:
            del headers["Upload-Offset"]  # as tus says: they are not put together yet
        if upload.length_bytes is None:
            headers["Upload-Defer-Length"] = "1"
        else:
            headers["Upload-Length"] = str(upload.length_bytes)
        for name, value in (
            ("Dataset-UUID", upload.dataset_uuid),
            ("Upload-Metadata", upload.metadata),
            ("Upload-Concat", upload.concat),
        ):
            if value:
                headers[name] = value
        return Response(headers=headers)

    async def patch(self, upload: Upload) -> Response:
        if upload.parts:
            raise Refused(HTTPStatus.FORBIDDEN, "what is put together from parts takes no bytes; send its parts")
        self.require_content_type()
        offset_bytes, checksum = self.number("upload-offset"), self.checksum()
        declared = self.number("upload-length") if "upload-length" in self.headers else upload.length_bytes
        if upload.length_bytes not in (None, declared):
            raise InvalidParameters(f"Upload-Length was {upload.length_bytes} and stays so; leave it out")
        self.require_offset(offset_bytes, upload)
        if declared is not None:
            self.require_fits((self.body_bytes() or 0) + offset_bytes, declared)
        if upload.complete:
            upload = await self.complete(upload)
        else:
            upload = await self.receive_into(upload, declared=declared, checksum=checksum)
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=self.progress(upload))

    async def get(self, upload: Upload) -> Response:
        """The bytes that are here."""
        return await self.in_thread(self.bytes_of, upload)

    async def delete(self, upload: Upload) -> Response:
        await self.in_thread(self.processor.cancel, upload.upload_id)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    # -- their parts -----------------------------------------------------------------------------

    def find(self, person: Person, upload_id: str) -> Upload:
        """The upload, if it is this person's; an unknown and a foreign one look the same."""
        upload = self.processor.uploads.get(upload_id)
        missing = NotFound("there is no such upload of yours; begin a new one")
        if upload is None or upload.user != person.email:
            raise missing
        try:
            if not upload.is_part:
                find_dataset(self.processor.store, person, upload.dataset_uuid, Action.CHANGE)
        except NotFound:
            raise missing from None
        waits = upload.is_part or not upload.complete
        if waits and upload.expires_at < self.processor.store.clock.now():
            raise Refused(HTTPStatus.GONE, "the upload stopped and has expired; begin a new one")
        return upload

    def require_takes(self, person: Person, request: metadata.Request, length_bytes: int) -> str:
        """The uuid of the data set, into which the file may come."""
        dataset = find_dataset(self.processor.store, person, str(request.dataset_uuid), Action.CHANGE)
        self.processor.require_takes(dataset, request.path, size_bytes=length_bytes)
        return dataset.uuid

    def open(
        self,
        person: Person,
        request: metadata.Request,
        length_bytes: int | None,
        *,
        concat: str = "",
        parts: Sequence[Upload] = (),
        durable: bool = True,
    ) -> Upload:
        dataset = None
        if request.dataset_uuid is not None:
            dataset = find_dataset(self.processor.store, person, request.dataset_uuid, Action.CHANGE)
        return self.processor.open_upload(
            user=person.email,
            path=request.path,
            length_bytes=length_bytes,
            dataset=dataset,
            name=request.name,
            sensor=request.sensor,
            metadata=request.raw,
            concat=concat,
            parts=parts,
            durable=durable,
        )

    async def receive_into(
        self,
        upload: Upload,
        *,
        declared: int | None = None,
        checksum: Checksum | None = None,
        durable: bool = True,
    ) -> Upload:
        """The upload with the body of the request, as far as it came and is durable."""
        processor = self.processor
        async with nullcontext() if self.turn is None else self.turn.taken():
            writing = await self.in_thread(processor.uploads.write, upload.upload_id, durable=durable)
        try:
            self.require_offset(upload.offset_bytes, writing.upload)  # an older request may have added some
            grow = None
            if writing.upload.length_bytes is None and declared is not None:
                await self.in_thread(processor.declare, writing, declared)
            elif writing.upload.length_bytes is None:
                needed = upload.offset_bytes + (self.body_bytes() or 0)
                await self.in_thread(processor.grow, writing, max(needed, writing.upload.reserved_bytes))
                grow = partial(_grow, processor, writing)
            room = writing.upload.reserved_bytes - writing.upload.offset_bytes
            end = await Reception(
                writing, self.body, self.threads, room_bytes=room, checksum=checksum, grow=grow
            ).run()
            upload = writing.upload
        finally:
            writing.close()
        if end is End.TOO_LONG:
            raise TooLarge(
                f"more bytes came than the {upload.length_bytes} that were declared; what came last was dropped, "
                "ask for the offset"
            )
        if end is End.NOT_AS_PROMISED:
            raise Mismatch
        if upload.complete:
            upload = await self.complete(upload)
        elif end is End.SLOW:
            raise Unavailable(
                "too little came for a minute; what came is kept, ask for the offset and go on from there"
            )
        return upload

    async def complete(self, upload: Upload) -> Upload:
        done = await self.in_thread(self.processor.complete, upload.upload_id)
        if done.sha256 is None and not done.is_part:  # lost with a restart: nobody waits for it
            self.digests.submit(self.processor.digest, upload.upload_id)
        return done

    def bytes_of(self, upload: Upload) -> Response:
        """What is durable of the upload, also when it has become a file of its data set."""
        folder, request = self.processor.folder, Request(self.scope, self.receive)
        name = quote(upload.path.rpartition("/")[2] or "part", safe="")
        answer_with = partial(
            file_answer,
            request=request,
            media_type="application/octet-stream",
            headers={
                "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
                "Content-Security-Policy": FILE_POLICY,
            },
            size_bytes=upload.offset_bytes,
        )
        try:
            return answer_with(folder.upload(upload.upload_id), (DATA,))
        except NotFound:
            if upload.is_part or not upload.complete:
                raise
        return answer_with(folder.dataset(upload.dataset_uuid).source, upload.path.split("/"))


def _grow(processor: UploadProcessor, writing: Writing, lacking_bytes: int) -> int:
    before = writing.upload.reserved_bytes
    processor.grow(writing, before + lacking_bytes, ahead_bytes=GROWTH_BYTES)
    return writing.upload.reserved_bytes - before


def _put_together(processor: UploadProcessor, upload: Upload) -> None:
    try:
        processor.assemble(upload.upload_id)
    except ScientistCloudError as failed:  # the next request, or the next start, tries again
        tell("upload not put together", upload, level=logging.WARNING, reason=failed)


_endpoint = Uploads()
router = APIRouter(
    routes=[
        Route(path, cast("Callable[..., object]", _endpoint), include_in_schema=False)
        for path in ("/api/uploads", "/api/uploads/", "/api/uploads/{upload_id}")
    ]
)
