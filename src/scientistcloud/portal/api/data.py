"""Bytes: source files, the converted form, and the form as the viewer can read it.

``/data/UUID/source/…`` and ``/data/UUID/converted.ome.zarr/…`` (or ``converted.idx`` and ``converted/…``) are what
is there now; ``/data/UUID/@TOKEN/…`` is one publication of the form, which never changes, so browsers keep it.
``/view-data/UUID/@TOKEN/NAME/…`` holds the same chunks under metadata with the one variable NAME, because viewers
show the first of `multiscales` alone; where the viewer cannot read the dtype, as float32, chunk by chunk.
``…/value?at=I,J`` is what is stored at a place.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from scientistcloud.errors import InvalidParameters, NotFound
from scientistcloud.layout import CONVERTED, CONVERTED_BLOCKS, CONVERTED_IDX, PREVIEW
from scientistcloud.portal.decoding import Decoding
from scientistcloud.portal.dependencies import Reader, SeenDataset, TheSettings
from scientistcloud.portal.files import file_answer
from scientistcloud.portal.forms import METADATA, Picture, find_picture, metadata_of, pictures_of
from scientistcloud.portal.guards import FILE_POLICY
from scientistcloud.portal.sources import source_of
from scientistcloud.portal.viewer_metadata import chunk_index, float32_array, only_picture
from scientistcloud.portal.viewer_state import missing_values
from scientistcloud.records import Dataset
from scientistcloud.settings import Settings

router = APIRouter(tags=["data"])

FOR_EVER = "private, max-age=31536000, immutable"
FRESH = "private, no-cache"
_BYTES = "application/octet-stream"


def _decoding(request: Request, reader: Reader) -> Decoding:
    state = request.app.state
    return cast("Decoding", state.decoding if reader else state.decoding_for_readers)


TheDecoding = Annotated[Decoding, Depends(_decoding)]


@router.get("/view-data/{uuid}/@{token}/{name}/value")
def get_value(
    dataset: SeenDataset, token: str, name: str, at: str, settings: TheSettings, decoding: TheDecoding
) -> dict[str, str]:
    """The value stored at one place of the full resolution, to its last digit; `at`: an index for each axis."""
    form = form_folder(dataset, settings, token)
    picture = find_picture(pictures_of(form, token), name)
    try:
        place = [int(each) for each in at.split(",")]
    except ValueError:
        raise InvalidParameters(f"at is {at!r}; give a whole number for each axis, such as 3,10,20") from None
    found = decoding.value(form / picture.levels[0], place, token=token, part=picture.part)
    return {"value": found, "dtype": picture.dtype}


@router.get("/view-data/{uuid}/@{token}/{name}/{path:path}", response_class=Response)
@router.head("/view-data/{uuid}/@{token}/{name}/{path:path}", include_in_schema=False)
def get_view_data(
    dataset: SeenDataset,
    token: str,
    name: str,
    path: str,
    request: Request,
    settings: TheSettings,
    decoding: TheDecoding,
) -> Response:
    """The form as the viewer reads it: one variable, of a dtype that it knows."""
    form = form_folder(dataset, settings, token)
    picture = find_picture(pictures_of(form, token), name)
    if path == METADATA:
        return _metadata_answer(only_picture(metadata_of(form, picture.group), picture), request)
    if picture.made_float32:
        within = f"{picture.group}/{path}".lstrip("/")
        if within.removesuffix(f"/{METADATA}") in picture.levels:
            array = metadata_of(form, within.removesuffix(f"/{METADATA}"))
            return _metadata_answer(float32_array(array), request)
        if (found := chunk_index(within, picture)) is not None:
            level, index = found
            missing = missing_values(picture)
            chunk = decoding.chunk(form / level, index, token=token, missing=missing, part=picture.part or "value")
            return _made_answer(chunk, request, _BYTES)
    return _form_file(form / picture.group, path, request, FOR_EVER)


@router.get("/data/{uuid}/@{token}/{path:path}", response_class=Response)
@router.head("/data/{uuid}/@{token}/{path:path}", include_in_schema=False)
def get_form(dataset: SeenDataset, token: str, path: str, request: Request, settings: TheSettings) -> Response:
    """One publication of the converted form; its bytes never change."""
    if is_idx(dataset) and token == str(form_token(dataset)) and _is_of_idx(path):
        return _form_file(settings.folder.dataset(dataset.uuid).root, path, request, FOR_EVER)
    return _form_file(form_folder(dataset, settings, token), path, request, FOR_EVER)


@router.get("/data/{uuid}/{path:path}", response_class=Response)
@router.head("/data/{uuid}/{path:path}", include_in_schema=False)
def get_file(dataset: SeenDataset, path: str, request: Request, settings: TheSettings) -> Response:
    """`source/…`, `converted.ome.zarr/…` (or `converted.idx`, `converted/…`) or `preview.webp`, as they are now."""
    folder = settings.folder.dataset(dataset.uuid)
    kind, _, rest = path.partition("/")
    if kind == "source" and rest:
        root, parts = source_of(dataset, settings, rest)
        return _source_file(root, parts, request)
    if kind == CONVERTED and rest:
        return _form_file(folder.converted, rest, request, FRESH)
    if _is_of_idx(path):
        return _form_file(folder.root, path, request, FRESH)
    if path == PREVIEW:
        headers = file_headers(FRESH)
        return file_answer(folder.root, (PREVIEW,), request, media_type="image/webp", headers=headers)
    raise NotFound(f"there is no {path!r} in data set {dataset.uuid}; it has source/, {CONVERTED}/ and {PREVIEW}")


def is_idx(dataset: Dataset) -> bool:
    """Whether the newest form is IDX, which the viewer does not read."""
    return bool(dataset.forms) and str(dataset.forms[-1].get("format", "")).startswith("OpenVisus IDX")


def _is_of_idx(path: str) -> bool:
    return path == CONVERTED_IDX or path.startswith(f"{CONVERTED_BLOCKS}/")


@dataclass(frozen=True, slots=True)
class Publication:
    """What there is to look at: the form that is in place, else the quick look of its first conversion."""

    #: In the addresses. What a token names never changes.
    token: str
    folder: Path
    quick: bool = False
    #: The viewer reads none of it.
    idx: bool = False


def publication(dataset: Dataset, settings: Settings) -> Publication | None:
    """What there is to look at now; None before there is anything."""
    folder = settings.folder.dataset(dataset.uuid)
    if (token := form_token(dataset)) is not None:
        return Publication(str(token), folder.converted, idx=is_idx(dataset))
    try:
        made = (folder.quicklook / METADATA).stat()
    except OSError:
        return None
    return Publication(f"quick{made.st_mtime_ns:x}-{made.st_ino:x}", folder.quicklook, quick=True)


def preview_address(dataset: Dataset, shown: Publication) -> str:
    """Where the preview of what is shown is fetched, in an address that changes with it."""
    if shown.quick:
        return f"/data/{dataset.uuid}/@{shown.token}/{PREVIEW}"
    return f"/data/{dataset.uuid}/{PREVIEW}?v={shown.token}"


def form_token(dataset: Dataset) -> int | None:
    """The token of the form that is in place; None before there is one."""
    return int(dataset.forms[-1]["token"]) if dataset.forms else None


def form_folder(dataset: Dataset, settings: Settings, token: str) -> Path:
    """Where the form published with `token` lies. Raises `NotFound` for one that has been replaced."""
    now = publication(dataset, settings)
    if now is None or token != now.token:
        raise NotFound(f"data set {dataset.uuid} has no form @{token} any more; open its page again")
    if now.idx:
        raise NotFound(f"data set {dataset.uuid} was converted to IDX, which has no view here; its page says more")
    return now.folder


def pictures(shown: Publication | None) -> tuple[Picture, ...]:
    """What can be looked at of it; () before there is anything, and of IDX."""
    return () if shown is None or shown.idx else pictures_of(shown.folder, shown.token)


def value_address(dataset: Dataset, shown: Publication, picture: Picture) -> str:
    """Where the values of `picture` can be asked for, one at a time."""
    return f"/view-data/{dataset.uuid}/@{shown.token}/{quote(picture.name)}/value"


def _form_file(root: Path, path: str, request: Request, cache: str) -> Response:
    parts = path.split("/")
    media_type = {METADATA: "application/json", PREVIEW: "image/webp"}.get(parts[-1], _BYTES)
    return file_answer(root, parts, request, media_type=media_type, headers=file_headers(cache))


def _source_file(root: Path, parts: Sequence[str], request: Request) -> Response:
    headers = file_headers(FRESH)
    # Kept, never shown: an uploaded page must not run as one of ours.
    headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(parts[-1], safe='')}"
    return file_answer(root, parts, request, media_type=_BYTES, headers=headers)


def _metadata_answer(document: dict[str, Any], request: Request) -> Response:
    return _made_answer(json.dumps(document).encode(), request, "application/json")


def _made_answer(body: bytes, request: Request, media_type: str) -> Response:
    headers = file_headers(FOR_EVER) | {"Content-Length": str(len(body))}
    return Response(b"" if request.method == "HEAD" else body, headers=headers, media_type=media_type)


def file_headers(cache: str) -> dict[str, str]:
    """For bytes that are kept as `cache` says, and never run."""
    return {"Cache-Control": cache, "Content-Security-Policy": FILE_POLICY}
