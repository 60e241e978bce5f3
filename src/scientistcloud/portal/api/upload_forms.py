"""Uploads by a plain form: for pages without JavaScript and for curl. They cannot be resumed, and are streamed too.

The fields `name`, `sensor` and `csrf_token` come before the files, which become one data set; `convert` anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.responses import JSONResponse, RedirectResponse, Response

from scientistcloud.datasets import catalogue
from scientistcloud.errors import InvalidParameters, ScientistCloudError, Unavailable
from scientistcloud.portal.dependencies import CSRF_FIELD, authorise
from scientistcloud.portal.exchange import Exchange
from scientistcloud.portal.reception import CHECKPOINT_BYTES, GROWTH_BYTES, End, Reception
from scientistcloud.records import Dataset, Person
from scientistcloud.uploads.processor import UploadProcessor
from scientistcloud.uploads.session import Hash, Writing

MEDIA_TYPE = "multipart/form-data"
_FIELD_BYTES = 64 * 1024


class FormExchange(Exchange):
    """One form, and its answer: the data set's page for a browser, JSON for a program."""

    async def respond(self) -> Response:
        person = await self.in_thread(authorise, self.scope, unsafe=False)
        self.require_plain()
        boundary = parse_options_header(self.headers["content-type"])[1].get(b"boundary")
        if not boundary:
            raise InvalidParameters(
                "the form's Content-Type has no boundary; let the browser or `curl -F` write it"
            )
        form = _Form(
            self.processor, person, boundary, own_page=lambda shown: authorise(self.scope, unsafe=True, shown=shown)
        )
        try:
            end = await Reception(form, self.body, self.threads, room_bytes=None).run()
            if end is not End.WHOLE:
                raise Unavailable("the form broke off; send it again, or use a client of tus, which goes on")
            dataset = await self.in_thread(form.finish)
        except (ScientistCloudError, FormParserError) as failed:
            await self.in_thread(form.give_up, str(failed))
            if isinstance(failed, FormParserError):
                raise InvalidParameters(f"the form cannot be read: {failed}; send it again") from failed
            raise
        page = f"/datasets/{dataset.uuid}"
        if "text/html" in self.headers.get("accept", ""):
            return RedirectResponse(page, HTTPStatus.SEE_OTHER)
        body = {"dataset_uuid": dataset.uuid, "status": dataset.status, "page": page}
        return JSONResponse(body, status_code=HTTPStatus.CREATED, headers={"Location": page})


class _Form:
    """A form as it comes; a `reception.Sink`, called in one thread at a time."""

    def __init__(
        self,
        processor: UploadProcessor,
        person: Person,
        boundary: bytes,
        *,
        own_page: Callable[[str | None], object],
    ) -> None:
        self._processor = processor
        self._person = person
        self._own_page = own_page
        self._dataset: Dataset | None = None
        self._fields: dict[str, str] = {}
        self._paths: set[str] = set()
        # Of the part that is being read.
        self._header_name = self._header_value = b""
        self._disposition = b""
        self._field: str | None = None
        self._value = b""
        self._writing: Writing | None = None
        self._written = self._unsynced = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._take_header_name,
                "on_header_value": self._take_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._open,
                "on_part_data": self._take,
                "on_part_end": self._end,
            },
        )

    def write(self, blocks: Sequence[bytes | memoryview], also: Hash | None = None) -> None:
        del also
        for block in blocks:
            self._parser.write(bytes(block))

    def checkpoint(self) -> None:
        """Nothing: what has come is made durable as it is written."""

    flush = require_mine = checkpoint

    def finish(self) -> Dataset:
        """All has come: close the data set. Raises `InvalidParameters` where it has no file."""
        self._parser.finalize()
        if self._dataset is None or self._writing is not None:
            raise InvalidParameters("the form holds no whole file; choose one and send it again")
        convert = self._fields.get("convert", "true") not in ("false", "0")
        return self._processor.close(self._dataset.uuid, convert=convert)

    def give_up(self, reason: str) -> None:
        """Remove what came."""
        if self._writing is not None:
            upload_id = self._writing.upload.upload_id
            self._writing.close()
            with suppress(ScientistCloudError):
                self._processor.cancel(upload_id)
        if self._dataset is not None:
            catalogue.fail_upload(self._processor.store, self._dataset.uuid, reason)

    # -- one part after the other ----------------------------------------------------------------

    def _begin(self) -> None:
        self._disposition = self._header_name = self._header_value = b""
        self._field, self._value = None, b""

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _open(self) -> None:
        options = parse_options_header(self._disposition)[1]
        try:
            name, path = (options[key].decode() if key in options else "" for key in (b"name", b"filename"))
        except UnicodeDecodeError:
            raise InvalidParameters("a name in the form is no UTF-8; rename the file") from None
        if b"filename" not in options:
            self._field = name
        elif path:  # else no file was chosen there
            self._open_file(path)

    def _open_file(self, path: str) -> None:
        if path in self._paths:
            raise InvalidParameters(f"the form holds two files called {path!r}; send them one after the other")
        self._paths.add(path)
        if self._dataset is None:
            self._own_page(self._fields.get(CSRF_FIELD))
            self._dataset = catalogue.open_dataset(
                self._processor.store,
                user=self._person.email,
                name=self._fields.get("name") or path.rpartition("/")[2],
                sensor=self._fields.get("sensor") or catalogue.AUTO,
            )
        upload = self._processor.open_upload(
            user=self._person.email, path=path, length_bytes=None, dataset=self._dataset
        )
        self._writing = self._processor.uploads.write(upload.upload_id)
        self._written = self._unsynced = 0

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._writing is not None:
            self._write(self._writing, data[start:end])
        elif self._field is not None:
            self._value += data[start:end]
            if len(self._value) > _FIELD_BYTES:
                raise InvalidParameters(f"the field {self._field[:60]!r} is too long; send files as files")

    def _write(self, writing: Writing, block: bytes) -> None:
        if self._written + len(block) > writing.upload.reserved_bytes:
            self._processor.grow(writing, self._written + len(block), ahead_bytes=GROWTH_BYTES)
        writing.write([block])
        self._written += len(block)
        self._unsynced += len(block)
        if self._unsynced >= CHECKPOINT_BYTES:
            writing.checkpoint()
            self._unsynced = 0

    def _end(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            try:
                writing.checkpoint()
                self._processor.declare(writing, self._written)
            finally:
                writing.close()
            self._processor.complete(writing.upload.upload_id)
        elif self._field is not None:
            self._fields[self._field] = self._value.decode(errors="replace")
