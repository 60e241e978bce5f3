"""Many small files in one request: a tar, into an open data set or one of its own. Raw ASGI, like all uploads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qs

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from scientistcloud.access.rules import Action
from scientistcloud.datasets import catalogue
from scientistcloud.errors import InvalidParameters, ScientistCloudError, Unavailable
from scientistcloud.portal.dependencies import authorise, find_dataset
from scientistcloud.portal.exchange import Exchange, Refused, answered, send_answer
from scientistcloud.portal.reception import End, Reception
from scientistcloud.records import Dataset, Person
from scientistcloud.uploads.batch import Batch


class Batches:
    """The endpoint."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="batches")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await answered(_BatchExchange(scope, receive, self._threads).respond)
        response.headers["Cache-Control"] = "no-store"
        await send_answer(response, scope, receive, send)


class _BatchExchange(Exchange):
    async def respond(self) -> Response:
        person = await self.in_thread(authorise, self.scope, unsafe=True)
        if self.scope["method"] != "PUT":
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "a batch comes by PUT, as a tar", {"Allow": "PUT"})
        self.require_plain()
        if self.body_bytes() == 0:
            raise InvalidParameters("the request has no body; send a tar of small files")
        given, convert = self.one("dataset"), self.one("convert") not in ("false", "0")
        dataset = await self.in_thread(self.opened, person, given)
        try:
            batch = await self.in_thread(
                self.processor.open_batch, dataset, user=person.email, size_bytes=self.body_bytes()
            )
            await self.receive_into(batch)
            if given is None:
                await self.in_thread(self.processor.close, dataset.uuid, convert=convert)
        except ScientistCloudError as failed:
            if given is None:
                await self.in_thread(catalogue.fail_upload, self.processor.store, dataset.uuid, str(failed))
            raise
        return JSONResponse({"dataset_uuid": dataset.uuid, "files": batch.files, "size_bytes": batch.size_bytes})

    def opened(self, person: Person, uuid: str | None) -> Dataset:
        """The data set that the request names, or a new one."""
        store = self.processor.store
        if uuid is not None:
            return find_dataset(store, person, uuid, Action.CHANGE)
        name = self.one("name")
        if name is None:
            raise InvalidParameters("the address names no data set; add ?dataset=UUID, or ?name= for a new one")
        return catalogue.open_dataset(store, user=person.email, name=name, sensor=self.one("sensor") or "auto")

    async def receive_into(self, batch: Batch) -> None:
        try:
            end = await Reception(batch, self.body, self.threads, room_bytes=None).run()
            if end is End.WHOLE:
                await self.in_thread(batch.end)
        finally:
            await self.in_thread(batch.close)
        if end is not End.WHOLE:
            raise Unavailable(f"the tar broke off; {batch.files} files are kept, send the others again")

    @cached_property
    def said(self) -> dict[str, list[str]]:
        """What the address says. Raises `InvalidParameters`."""
        try:
            return parse_qs(self.scope["query_string"].decode("latin-1"), errors="strict")
        except UnicodeDecodeError:
            raise InvalidParameters("the address holds what is no UTF-8; write it as %C3%A9 and the like") from None

    def one(self, name: str) -> str | None:
        values = self.said.get(name, [])
        if len(values) > 1:
            raise InvalidParameters(f"the address says {name} twice; say it once")
        return values[0] if values else None


router = APIRouter(
    routes=[Route("/api/uploads/batch", cast("Callable[..., object]", Batches()), include_in_schema=False)]
)
