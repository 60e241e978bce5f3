"""The form "convert again" on a data set's page: what people type, as options of a conversion."""

from __future__ import annotations

import uuid as uuids
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Form
from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from scientistcloud.errors import InvalidParameters
from scientistcloud.portal.api.datasets import Conversion, TheProcessor
from scientistcloud.portal.dependencies import ChangedDataset

router = APIRouter(include_in_schema=False)

_LISTS = {"axes": str, "chunk": int, "shard": int}


@router.post("/datasets/{uuid}/convert")
def convert_again(
    dataset: ChangedDataset,
    processor: TheProcessor,
    request: Annotated[str, Form()] = "",
    sensor: Annotated[str, Form()] = "",
    array: Annotated[str, Form()] = "",
    axes: Annotated[str, Form()] = "",
    spacing: Annotated[str, Form()] = "",
    fill: Annotated[str, Form()] = "",
    reduce: Annotated[str, Form()] = "",
    levels: Annotated[str, Form()] = "",
    chunk: Annotated[str, Form()] = "",
    shard: Annotated[str, Form()] = "",
    codec: Annotated[str, Form()] = "",
    scan: Annotated[str, Form()] = "",
    bands: Annotated[str, Form()] = "",
    kind: Annotated[str, Form(alias="format")] = "",
) -> Response:
    """Queue it, and back to the page; what was left empty is chosen as always."""
    typed = {
        "array": array, "axes": axes, "spacing": spacing, "fill": fill, "reduce": reduce, "levels": levels,
        "chunk": chunk, "shard": shard, "codec": codec, "scan": scan, "bands": bands, "format": kind,
    }  # fmt: skip
    options = options_of({name: text.strip() for name, text in typed.items() if text.strip()})
    processor.convert_again(
        dataset.uuid, request=request or str(uuids.uuid4()), sensor=sensor or None, options=options
    )
    return RedirectResponse(f"/datasets/{dataset.uuid}", HTTPStatus.SEE_OTHER)


def options_of(typed: dict[str, str]) -> dict[str, Any]:
    """The options that people typed: ``z, y, x``, ``z=2.5, y=0.4``, ``64, 64, 64``. Raises `InvalidParameters`."""
    said: dict[str, Any] = {}
    for name, text in typed.items():
        try:
            if name in _LISTS:
                said[name] = [_LISTS[name](part.strip()) for part in text.split(",")]
            elif name == "spacing":
                pairs = [part.partition("=") for part in text.split(",")]
                said[name] = {axis.strip(): float(number) for axis, _, number in pairs}
            elif name == "fill":
                said[name] = "NaN" if text.lower() == "nan" else _number(text)
            else:
                said[name] = text
        except ValueError:
            raise InvalidParameters(f"{name} is {text!r}; its field shows how to write it") from None
    try:
        return Conversion.model_validate(said).options()
    except ValidationError as wrong:
        first = wrong.errors()[0]
        raise InvalidParameters(f"{first['loc'][0]} is {first['input']!r}: {first['msg']}") from None


def _number(text: str) -> float | int:
    try:
        return int(text)
    except ValueError:
        return float(text)
