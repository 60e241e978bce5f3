"""A data set as a whole: its files or its converted form, as one zip, or as a list to fetch and check."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from scientistcloud.datasets.lifecycle import is_whole
from scientistcloud.errors import NotFound
from scientistcloud.layout import CONVERTED, CONVERTED_BLOCKS, CONVERTED_IDX
from scientistcloud.portal.dependencies import Caller, SeenDataset, TheSettings, TheStore
from scientistcloud.portal.files import Span, open_beneath, span_of
from scientistcloud.portal.sources import source_of
from scientistcloud.portal.zipping import Member, ZipStream
from scientistcloud.ports import Store
from scientistcloud.records import Dataset, DatasetFile
from scientistcloud.settings import GIB, Settings

router = APIRouter(tags=["data"])

# So much of a form is read for the digests of one page of its list.
_PAGE_BYTES = GIB
_PAGE_FILES = 10_000


class FormFile(BaseModel):
    """One file of the converted form."""

    #: Below `/data/{uuid}/`.
    path: str
    size_bytes: int
    #: Hex.
    sha256: str


class FormFiles(BaseModel):
    #: Of the publication: the same token, the same bytes.
    token: int
    files: list[FormFile]
    #: Ask for the next page with this as `after`; null where this is the last one.
    after: str | None


@router.get("/api/datasets/{uuid}/form")
def list_form(
    _caller: Caller,  # a gigabyte is read for one answer
    dataset: SeenDataset,
    settings: TheSettings,
    after: Annotated[str | None, Query(description="The last `path` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> FormFiles:
    """The files of the converted form with their digests, which are computed now. 404 before there is a form."""
    folder, token = _form(dataset, settings)
    rows: list[FormFile] = []
    read = 0
    paths = [path for path in _form_files(folder) if after is None or path > after]
    for path in paths:
        if len(rows) >= limit or read >= _PAGE_BYTES:
            break
        handle = open_beneath(folder, path.split("/"))
        with os.fdopen(handle, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size_bytes = os.fstat(handle).st_size
        rows.append(FormFile(path=path, size_bytes=size_bytes, sha256=digest))
        read += size_bytes
    more = len(rows) < len(paths)
    return FormFiles(token=token, files=rows, after=rows[-1].path if more and rows else None)


@router.get("/data/{uuid}/source.zip", response_class=Response)
@router.head("/data/{uuid}/source.zip", include_in_schema=False)
def get_source(dataset: SeenDataset, request: Request, store: TheStore, settings: TheSettings) -> Response:
    """The files as they came, as a zip; `Range` goes on where a line broke."""
    files = [(file.path, file.size_bytes, file.sha256) for file in _source_files(store, dataset)]
    if not files:
        raise NotFound(f"data set {dataset.uuid} has no file yet")
    members = [Member(path, size_bytes) for path, size_bytes, _ in files]

    def open_source(name: str) -> int:
        root, parts = source_of(dataset, settings, name)
        return open_beneath(root, parts)

    return _zip(open_source, members, request, dataset, kind="source", state=repr(files))


@router.get("/data/{uuid}/converted.zip", response_class=Response)
@router.head("/data/{uuid}/converted.zip", include_in_schema=False)
def get_converted(dataset: SeenDataset, request: Request, settings: TheSettings) -> Response:
    """The converted form as a zip; `Range` goes on where a line broke."""
    folder, token = _form(dataset, settings)
    members = [Member(path, (folder / path).stat().st_size) for path in _form_files(folder)]
    opened = partial(_open_below, folder)
    return _zip(opened, members, request, dataset, kind="converted", state=str(token))


def _form(dataset: Dataset, settings: Settings) -> tuple[Path, int]:
    """The folder in which the form lies, and the token of its publication. Raises `NotFound`."""
    if not dataset.forms:
        raise NotFound(f"data set {dataset.uuid} has no converted form yet; download its files as they came")
    if not is_whole(dataset):
        raise NotFound(
            f"data set {dataset.uuid} is not converted: there is only a first look at some of its pixels; convert "
            f"it on its page or by POST /api/datasets/{dataset.uuid}/convert, or download its files as they came"
        )
    return settings.folder.dataset(dataset.uuid).root, int(dataset.forms[-1]["token"])


def _source_files(store: Store, dataset: Dataset) -> Iterator[DatasetFile]:
    after: str | None = None
    while page := store.datasets.files(dataset.uuid, after=after, limit=_PAGE_FILES):
        yield from page
        after = page[-1].path


def _form_files(folder: Path) -> list[str]:
    """The files of the form in `folder`, by path: of OME-Zarr one folder, of IDX a file and a folder of blocks."""
    found = [CONVERTED_IDX] if (folder / CONVERTED_IDX).is_file() else []
    for top in (CONVERTED, CONVERTED_BLOCKS):
        for parent, _, names in os.walk(folder / top):
            found += [Path(parent, name).relative_to(folder).as_posix() for name in names]
    return sorted(found)


@lru_cache(maxsize=64)
def _known_checksums(etag: str) -> dict[int, int]:
    """CRCs of what was sent lately, filled by `ZipStream`: who goes on with a download does not wait for them."""
    del etag
    return {}


def _open_below(root: Path, name: str) -> int:
    return open_beneath(root, name.split("/"))


def _zip(
    opened: Callable[[str], int],
    members: Sequence[Member],
    request: Request,
    dataset: Dataset,
    *,
    kind: str,
    state: str,
) -> Response:
    etag = '"' + hashlib.sha256(f"{dataset.uuid} {kind} {state} {members!r}".encode()).hexdigest()[:32] + '"'
    stream = ZipStream(
        members,
        modified=dataset.created_at,
        open_member=lambda index: opened(members[index].name),
        checksums=_known_checksums(etag),
    )
    name = quote(f"{dataset.name} {kind}.zip".replace("/", "_"), safe="")
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "Cache-Control": "private, no-cache",
        "Content-Type": "application/zip",
    }
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(stream.size_bytes)})
    unchanged = request.headers.get("if-range", etag) == etag
    try:
        span = span_of(request.headers.get("range"), stream.size_bytes) if unchanged else None
    except ValueError:
        return Response(
            status_code=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            headers={"Content-Range": f"bytes */{stream.size_bytes}"},
        )
    status = HTTPStatus.OK if span is None else HTTPStatus.PARTIAL_CONTENT
    if span is not None:
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{stream.size_bytes}"
    span = span or Span(0, stream.size_bytes)
    headers["Content-Length"] = str(span.stop - span.start)
    return StreamingResponse(stream.blocks(span.start, span.stop), status_code=status, headers=headers)
