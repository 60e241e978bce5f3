"""Frames and maps of a scan: sums and means over the region that a person draws, as ``.npy``.

``/scan-data/UUID/@TOKEN/frame`` is over points of the scan, ``…/map`` over pixels of the detector, and
``…/images/NAME`` one of the images that the conversion made of it.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from scientistcloud.errors import InvalidParameters, NotFound
from scientistcloud.portal.api.data import FOR_EVER, TheDecoding, file_headers, form_folder
from scientistcloud.portal.decoding import Decoding
from scientistcloud.portal.dependencies import SeenDataset, TheSettings
from scientistcloud.portal.forms import find_picture, pictures_of
from scientistcloud.portal.scans import scan_of
from scientistcloud.records import Dataset
from scientistcloud.settings import Settings

router = APIRouter(tags=["data"])

_SPAN = re.compile(r"(\d{1,9})(?::(\d{1,9}))?")
Span = Annotated[str, Query(description="One index, such as `3`, or `3:8` for those from 3 up to 8")]


class How(StrEnum):
    """What is made of the values of a region."""

    SUM = "sum"
    MEAN = "mean"


@router.get("/scan-data/{uuid}/@{token}/images/{name}", response_class=Response)
def get_image(
    dataset: SeenDataset, token: str, name: str, settings: TheSettings, decoding: TheDecoding
) -> Response:
    """A picture of two dimensions at full resolution, as ``.npy``."""
    form = form_folder(dataset, settings, token)
    picture = find_picture(pictures_of(form, token), name)
    return _npy(decoding.whole_image(form / picture.levels[0], token=token))


class _Region:
    """Which part of the scan is asked for, and what to make of it."""

    def __init__(self, rows: Span, columns: Span, how: How = How.SUM) -> None:
        self.rows, self.columns, self.mean = _span("rows", rows), _span("columns", columns), how is How.MEAN


@router.get("/scan-data/{uuid}/@{token}/frame", response_class=Response)
def get_frame(
    dataset: SeenDataset,
    token: str,
    region: Annotated[_Region, Depends()],
    settings: TheSettings,
    decoding: TheDecoding,
) -> Response:
    """The frame over these points of the scan, as ``.npy``."""
    return _over(dataset, token, "points", region, settings, decoding)


@router.get("/scan-data/{uuid}/@{token}/map", response_class=Response)
def get_map(
    dataset: SeenDataset,
    token: str,
    region: Annotated[_Region, Depends()],
    settings: TheSettings,
    decoding: TheDecoding,
) -> Response:
    """The map over these pixels of the detector, as ``.npy``."""
    return _over(dataset, token, "pixels", region, settings, decoding)


def _over(
    dataset: Dataset, token: str, over: str, region: _Region, settings: Settings, decoding: Decoding
) -> Response:
    form = form_folder(dataset, settings, token)
    scan = scan_of(form, token)
    if scan is None:
        raise NotFound(f"data set {dataset.uuid} is no scan of frames; its page shows what it is")
    found = decoding.over_region(
        form / scan.path,
        over,
        region.rows,
        region.columns,
        mean=region.mean,
        missing=scan.missing,
        mask=form / scan.mask if scan.mask else None,
        token=token,
    )
    return _npy(found)


def _span(name: str, given: str) -> tuple[int, int]:
    found = _SPAN.fullmatch(given)
    if found is None:
        raise InvalidParameters(f"{name} is {given!r}; give an index such as 3, or a range such as 3:8")
    start = int(found[1])
    return start, int(found[2]) if found[2] else start + 1


def _npy(body: bytes) -> Response:
    return Response(body, headers=file_headers(FOR_EVER), media_type="application/octet-stream")
