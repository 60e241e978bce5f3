"""Resumable uploads: tus 1.0 with creation, creation-with-upload, termination and expiration; raw ASGI.

Who asks is found out first, then each header is checked, then the body is read. Headers that a client sends are
never copied out, save ``Upload-Metadata``, which comes back as it was sent. What is wrong in passing is a 5xx: on
a 4xx clients throw away what they know for going on. See docs/decisions/0050.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import UTC
from email.utils import format_datetime
from functools import partial
from http import HTTPStatus
from typing import TypeVar, cast

from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from scientistcloud.access.rules import Action
from scientistcloud.errors import InvalidParameters, NotFound, ScientistCloudError, TooLarge, Unavailable
from scientistcloud.portal.dependencies import SAFE_METHODS, authorise, find_dataset
from scientistcloud.portal.problems import Problem, answer, problem_of
from scientistcloud.portal.reception import End, Reception
from scientistcloud.records import Person
from scientistcloud.settings import MIB
from scientistcloud.uploads import metadata
from scientistcloud.uploads.processor import UploadProcessor
from scientistcloud.uploads.session import Upload

_LOG = logging.getLogger(__name__)
T = TypeVar("T")

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination,expiration"
CONTENT_TYPE = "application/offset+octet-stream"
TEND_SECONDS = 600.0
_ALLOWED = "OPTIONS, POST, HEAD, PATCH, DELETE"
# After an early answer so much of the body is still taken, so that the sender gets to read the answer.
_LINGER_BYTES, _LINGER_SECONDS = 4 * MIB, 2.0


class _Refused(Exception):
    """An answer that is no error of ours."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.problem = Problem(status, detail, None, headers or {})


class Uploads:
    """The endpoint. The app's state has the `UploadProcessor` as `processor`."""

    def __init__(self) -> None:
        # Of its own: writing never waits for the pages' threads, nor they for it.
        self._threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="uploads")
        self._digests = ThreadPoolExecutor(max_workers=1, thread_name_prefix="digests")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await _Exchange(scope, receive, self._threads, self._digests).respond()
        except _Refused as refused:
            response = answer(refused.problem)
        except ScientistCloudError as failed:
            response = answer(problem_of(failed))
        response.headers["Tus-Resumable"] = VERSION
        response.headers["Cache-Control"] = "no-store"
        headers = Headers(scope=scope)
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        if has_body and response.status_code >= HTTPStatus.BAD_REQUEST:
            await _send_early(response, receive, send)
        else:
            await response(scope, receive, send)


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, threads: Executor, digests: Executor) -> None:
        self.scope = scope
        self.receive = receive
        self.threads = threads
        self.digests = digests
        self.headers = Headers(scope=scope)
        self.processor: UploadProcessor = scope["app"].state.processor

    async def respond(self) -> Response:
        method = self.headers.get("x-http-method-override", self.scope["method"])
        person = await self.in_thread(authorise, self.scope, unsafe=method not in SAFE_METHODS)
        if method == "OPTIONS":
            return self.options()
        if self.headers.get("tus-resumable") != VERSION:
            raise _Refused(
                HTTPStatus.PRECONDITION_FAILED,
                f"this server speaks tus {VERSION}; send the header Tus-Resumable: {VERSION}",
                {"Tus-Version": VERSION},
            )
        upload_id = self.scope.get("path_params", {}).get("upload_id")
        match method, upload_id:
            case "POST", None:
                return await self.create(person)
            case (("HEAD" | "PATCH" | "DELETE"), str()):
                upload = await self.in_thread(self.find, person, upload_id)
                if method == "HEAD":
                    return await self.head(upload)
                return await (self.patch(upload) if method == "PATCH" else self.delete(upload))
        raise _Refused(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "uploads are opened by POST /api/uploads/ and sent by PATCH to the address in its Location",
            {"Allow": _ALLOWED},
        )

    # -- the methods -----------------------------------------------------------------------------

    def options(self) -> Response:
        most = self.processor.uploads.limits.max_upload_bytes
        return Response(
            status_code=HTTPStatus.NO_CONTENT,
            headers={"Tus-Version": VERSION, "Tus-Extension": EXTENSIONS, "Allow": _ALLOWED}
            | ({} if most is None else {"Tus-Max-Size": str(most)}),
        )

    async def create(self, person: Person) -> Response:
        if "upload-concat" in self.headers or "upload-defer-length" in self.headers:
            raise InvalidParameters("Upload-Concat and Upload-Defer-Length are not offered; send Upload-Length")
        length_bytes = self.number("upload-length")
        request = metadata.request_of(self.headers.get("upload-metadata", ""))
        body_bytes = self.body_bytes()
        if body_bytes != 0:
            self.require_content_type()
            self.require_fits(body_bytes or 0, length_bytes)
        # All of a small file, into a data set that is there: nobody knows of it before the answer to all.
        at_once = body_bytes == length_bytes and request.dataset_uuid is not None
        upload = await self.in_thread(self.open, person, request, length_bytes, durable=not at_once)
        headers = {
            "Location": f"{self.scope['path'].rstrip('/')}/{upload.upload_id}",
            "Dataset-UUID": upload.dataset_uuid,
        }
        if body_bytes != 0:
            upload = await self.receive_into(upload, durable=not at_once)
        elif upload.complete:
            await self.complete(upload)
        return Response(status_code=HTTPStatus.CREATED, headers=headers | self.progress(upload))

    async def head(self, upload: Upload) -> Response:
        if upload.complete:
            await self.complete(upload)  # where an earlier request was cut off before it was done
        headers = self.progress(upload) | {
            "Upload-Length": str(upload.length_bytes),
            "Dataset-UUID": upload.dataset_uuid,
        }
        if upload.metadata:
            headers["Upload-Metadata"] = upload.metadata
        return Response(headers=headers)

    async def patch(self, upload: Upload) -> Response:
        self.require_content_type()
        offset_bytes = self.number("upload-offset")
        self.require_offset(offset_bytes, upload)
        self.require_fits((self.body_bytes() or 0) + offset_bytes, upload.length_bytes)
        if upload.complete:
            await self.complete(upload)
        else:
            upload = await self.receive_into(upload)
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=self.progress(upload))

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
            find_dataset(self.processor.store, person, upload.dataset_uuid, Action.CHANGE)
        except NotFound:
            raise missing from None
        if not upload.complete and upload.expires_at < self.processor.store.clock.now():
            raise _Refused(HTTPStatus.GONE, "the upload stopped and has expired; begin a new one")
        return upload

    def open(self, person: Person, request: metadata.Request, length_bytes: int, *, durable: bool) -> Upload:
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
            durable=durable,
        )

    async def receive_into(self, upload: Upload, *, durable: bool = True) -> Upload:
        """The upload with the body of the request, as far as it came and is durable."""
        writing = await self.in_thread(self.processor.uploads.write, upload.upload_id, durable=durable)
        try:
            self.require_offset(upload.offset_bytes, writing.upload)  # an older request may have added some
            end = await Reception(writing, self.receive, self.threads).run()
            upload = writing.upload
        finally:
            writing.close()
        if end is End.TOO_LONG:
            raise TooLarge(
                f"more bytes came than the {upload.length_bytes} that were declared; what came last was dropped, "
                "ask for the offset"
            )
        if upload.complete:
            await self.complete(upload)
        elif end is End.SLOW:
            raise Unavailable(
                "too little came for a minute; what came is kept, ask for the offset and go on from there"
            )
        return upload

    async def complete(self, upload: Upload) -> None:
        done = await self.in_thread(self.processor.complete, upload.upload_id)
        if done.sha256 is None:  # lost with a restart: nobody waits for it
            self.digests.submit(self.processor.digest, upload.upload_id)

    def progress(self, upload: Upload) -> dict[str, str]:
        headers = {"Upload-Offset": str(upload.offset_bytes)}
        if not upload.complete:
            headers["Upload-Expires"] = format_datetime(upload.expires_at.astimezone(UTC), usegmt=True)
        return headers

    # -- headers ---------------------------------------------------------------------------------

    def number(self, name: str) -> int:
        """The header `name`, a number of bytes. Raises `InvalidParameters`."""
        value = self.headers.get(name, "")
        if not (value.isascii() and value.isdecimal()):
            raise InvalidParameters(f"{name.title()} is {value[:60]!r}; send a number of bytes, 0 or more")
        if len(value) > 18:
            raise TooLarge(f"{name.title()} is beyond every limit; send what it really is")
        return int(value)

    def body_bytes(self) -> int | None:
        """How long the body says it is; None where it will be known at its end."""
        if "content-length" in self.headers:
            return self.number("content-length")
        return None if "transfer-encoding" in self.headers else 0

    def require_content_type(self) -> None:
        if self.headers.get("content-type") != CONTENT_TYPE:
            raise _Refused(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"bytes of an upload come with Content-Type: {CONTENT_TYPE}"
            )

    def require_offset(self, offset_bytes: int, upload: Upload) -> None:
        if offset_bytes != upload.offset_bytes:
            raise _Refused(
                HTTPStatus.CONFLICT,
                f"{upload.offset_bytes} bytes are here; go on from there, not from {offset_bytes}",
                {"Upload-Offset": str(upload.offset_bytes)},
            )

    def require_fits(self, end_bytes: int, length_bytes: int) -> None:
        if end_bytes > length_bytes:
            raise TooLarge(f"the body would end at byte {end_bytes}, but {length_bytes} were declared; send those")

    async def in_thread(self, call: Callable[..., T], *arguments: object, **named: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, partial(call, *arguments, **named))


async def _send_early(response: Response, receive: Receive, send: Send) -> None:
    """Send an answer that may come before the end of the body, let the sender read it, and close.

    Closing with unread bytes resets the connection, and the answer is lost on the way.
    """
    response.headers["Connection"] = "close"
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    left = _LINGER_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
    await send({"type": "http.response.body", "body": b"", "more_body": False})


_endpoint = Uploads()
router = APIRouter(
    routes=[
        Route(path, cast("Callable[..., object]", _endpoint), include_in_schema=False)
        for path in ("/api/uploads", "/api/uploads/", "/api/uploads/{upload_id}")
    ]
)


@asynccontextmanager
async def tending(processor: UploadProcessor) -> AsyncIterator[None]:
    """While the portal runs: finish what a crash interrupted, now and every ten minutes, and end what expired."""

    async def tend() -> None:
        while True:
            try:
                await asyncio.to_thread(processor.tend)
            except ScientistCloudError as failed:
                _LOG.warning("uploads could not be tended, will be tried again: %s", failed)
            except Exception:  # noqa: BLE001  # the next round may do better, and there must be one
                _LOG.exception("uploads could not be tended")
            await asyncio.sleep(TEND_SECONDS)

    task = asyncio.create_task(tend())
    try:
        yield
    finally:
        processor.stop()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
