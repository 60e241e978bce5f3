"""What a job's parameters ask of a conversion: options of reader and writer, and the recipe to do it again."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from scientistcloud.converters.contract import ReadOptions
from scientistcloud.converters.overruled import scan_from_text
from scientistcloud.errors import InvalidParameters
from scientistcloud.omezarr.image import Reduction
from scientistcloud.omezarr.plan import WriteOptions
from scientistcloud.records import Json

OME_ZARR, IDX = FORMS = ("ome-zarr", "idx")
MOST_CHUNK, MOST_SHARD = 1 << 24, 1 << 28  # voxels: a chunk is decoded, a shard is held as a whole


def read_options(parameters: Json) -> ReadOptions:
    """The reader's options among a job's parameters. Raises `InvalidParameters` for one of a wrong form."""
    axes, spacing = parameters.get("axes"), parameters.get("spacing") or {}
    if axes is not None and not (isinstance(axes, list | tuple) and all(isinstance(each, str) for each in axes)):
        raise InvalidParameters(f"axes is {axes!r}; give a list of names such as ['z', 'y', 'x']")
    if not isinstance(spacing, Mapping) or not all(
        isinstance(each, int | float) and 0 < each < float("inf") for each in spacing.values()
    ):
        raise InvalidParameters(
            f"spacing is {spacing!r}; give a positive number for each axis such as {{'z': 2.5}}"
        )
    array, bands = parameters.get("array"), parameters.get("bands")
    return ReadOptions(
        array=None if array is None else str(array),
        axes=None if axes is None else tuple(axes),
        spacing={str(name): float(each) for name, each in spacing.items()},
        bands=None if bands is None else str(bands),
        scan=_scan(parameters.get("scan")),
    )


def form_option(parameters: Json) -> str:
    """The form that a job's parameters ask for, `ome-zarr` where they do not. Raises `InvalidParameters`."""
    form = parameters.get("format") or OME_ZARR
    if form not in FORMS:
        raise InvalidParameters(f"format is {form!r}; it can be {' or '.join(FORMS)}")
    return str(form)


def write_options(parameters: Json) -> WriteOptions:
    """The writer's options among a job's parameters. Raises `InvalidParameters`."""
    levels, reduce = parameters.get("levels"), parameters.get("reduce")
    if levels is not None and (not isinstance(levels, int) or levels < 1):
        raise InvalidParameters(f"levels is {levels!r}; give a number from 1 on")
    known = {each.name.lower(): each for each in Reduction}
    if reduce is not None and reduce not in known:
        raise InvalidParameters(f"reduce is {reduce!r}; it can be {', '.join(known)}")
    codec = parameters.get("codec") or "auto"
    if codec not in ("auto", "zstd", "lz4"):
        raise InvalidParameters(f"codec is {codec!r}; it can be auto, zstd or lz4")
    fill = parameters.get("fill")
    fill = float("nan") if fill == "NaN" else fill
    if fill is not None and (isinstance(fill, bool) or not isinstance(fill, int | float)):
        raise InvalidParameters(f"fill is {fill!r}; give the number that means 'no data'")
    return WriteOptions(
        levels=levels,
        reduction=known[reduce] if reduce else None,
        codec=codec,
        fill=fill,
        chunk=_box("chunk", parameters.get("chunk"), most=MOST_CHUNK),
        shard=_box("shard", parameters.get("shard"), most=MOST_SHARD),
    )


def recipe_of(sensor: str, options: ReadOptions, writing: WriteOptions, form: str) -> dict[str, Any]:
    """What has to be said to do the same again."""
    named: dict[str, Any] = {
        "sensor": sensor,
        "array": options.array,
        "axes": list(options.axes) if options.axes else None,
        "spacing": dict(options.spacing) or None,
        "bands": options.bands,
        "scan": list(options.scan) if options.scan else None,
        "levels": writing.levels,
        "reduce": writing.reduction.name.lower() if writing.reduction else None,
        "codec": writing.codec,
        "fill": _json_number(writing.fill),
        "chunk": list(writing.chunk) if writing.chunk else None,
        "shard": list(writing.shard) if writing.shard else None,
        "format": None if form == OME_ZARR else form,
    }
    return {"options": {key: value for key, value in named.items() if value is not None}}


def _scan(said: Any) -> tuple[int, int] | None:
    if isinstance(said, list | tuple) and len(said) == 2:
        said = "x".join(map(str, said))
    return scan_from_text(None if said is None else str(said))


def _box(name: str, given: Any, *, most: int) -> tuple[int, ...] | None:
    if given is None:
        return None
    whole = isinstance(given, list | tuple) and all(isinstance(n, int) and not isinstance(n, bool) for n in given)
    if not whole or not given or min(given) < 1 or prod(given) > most:
        raise InvalidParameters(f"{name} is {given!r}; give lengths of the last axes such as [64, 64, 64]")
    return tuple(given)


def _json_number(number: float | None) -> float | str | None:
    """NaN is no JSON."""
    return "NaN" if number is not None and number != number else number
