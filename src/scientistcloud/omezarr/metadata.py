"""All metadata that is written: OME-NGFF 0.5, Zarr v3 and CF, as JSON objects. NGFF moves; it moves here."""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from scientistcloud import __version__
from scientistcloud.omezarr.arrangement import Group, Member
from scientistcloud.omezarr.codec import Codec
from scientistcloud.omezarr.image import Axis, AxisKind, Channel, Coordinate, Image, Reduction
from scientistcloud.omezarr.pyramid import LENGTHS, Level
from scientistcloud.omezarr.statistics import Histogram, Window
from scientistcloud.records import Json

NGFF_VERSION = "0.5"
OURS = "scientistcloud"
"""The key of the root's attributes that holds where the store came from."""
SOURCE_METADATA_BYTES = 64 << 10
"""Of the source's own metadata, so much is kept: every viewer reads the root's attributes first."""
KEYWORDS_CHARACTERS = 2000
"""Of its words, so much goes into the catalogue, where each search reads them."""
_LONGEST_KEYWORD = 200
# Numbers, identifiers and digests, addresses, the types of arrays.
_NO_WORD = re.compile(
    r"[\d\W_]+|(urn:uuid:)?[\da-fA-F]{8}-[\da-fA-F-]{27}|[\da-fA-F]{32,}|https?://\S+|\S+ \([\d, ]*\)"
)
_IN_XML = re.compile(r"=\s*\"([^\"<>]*)\"|>([^<>]+)<")

TIMES = frozenset((
    "attosecond", "centisecond", "day", "decisecond", "exasecond", "femtosecond", "gigasecond", "hectosecond",
    "hour", "kilosecond", "megasecond", "microsecond", "millisecond", "minute", "nanosecond", "petasecond",
    "picosecond", "second", "terasecond", "yoctosecond", "yottasecond", "zeptosecond", "zettasecond",
))  # fmt: skip
_COLORS = (
    "00FF00",
    "FF00FF",
    "00FFFF",
    "FFFF00",
    "FF0000",
    "0000FF",
)  # of channels without one, told apart by most

_DESCRIPTIONS = {
    Reduction.MEAN: "mean over boxes of 2 of the level before; fill values and NaN left out, rounded half to even",
    Reduction.MAXIMUM: "maximum over boxes of 2 of the level before; fill values and NaN left out",
    Reduction.MODE: "most frequent value of boxes of 2 of the level before, of several the smallest",
    Reduction.OR: "bitwise or over boxes of 2 of the level before",
    Reduction.NEAREST: "first value of boxes of 2 of the level before",
}


# -- Zarr v3 -------------------------------------------------------------------------------------


def group_document(attributes: Json) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}


def array_document(
    *,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    chunk: Sequence[int],
    shard: Sequence[int] | None,
    codec: Codec,
    dims: Sequence[str],
    fill: Any,
    attributes: Json,
) -> dict[str, Any]:
    """The `zarr.json` of an array; `shard` None: its chunks are files of their own."""
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    inner = [little if dtype.itemsize > 1 else {"name": "bytes"}, codec.configuration(dtype)]
    sharding = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": list(chunk),
            "codecs": inner,
            "index_codecs": [little, {"name": "crc32c"}],
            "index_location": "end",
        },
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shard or chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": _zarr_fill(fill, dtype),
        "codecs": [sharding] if shard else inner,
        "attributes": dict(attributes),
        "dimension_names": list(dims),
        "storage_transformers": [],
    }


def _zarr_fill(value: Any, dtype: np.dtype[Any]) -> Any:
    """The value of chunks that are not stored, as Zarr v3 spells it."""
    match dtype.kind:
        case "b":
            return bool(value)
        case "i" | "u":
            return int(value)
        case "f":
            return _spelled(float(value))
        case _:
            return [_spelled(complex(value).real), _spelled(complex(value).imag)]


def _spelled(number: float) -> Any:
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def consolidated(root: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """`root` with all `nodes` (path: document) inline, so that xarray opens a store without listing it."""
    inline = {"kind": "inline", "must_understand": False, "metadata": dict(sorted(nodes.items()))}
    return {**root, "consolidated_metadata": inline}


# -- CF, as xarray writes it ----------------------------------------------------------------------


def cf_attributes(image: Image, group: Group) -> dict[str, Any]:
    """The attributes of a variable: those of the source, with `coordinates` naming what is there."""
    attributes = _attributes(image.attributes, image.dtype)
    sources = [each.attributes for each in group.coordinates.values()]
    sources += [member.image.attributes for member in group.members]
    referred = {
        name
        for each in sources
        for key in ("bounds", "grid_mapping", "climatology")
        for name in str(each.get(key, "")).replace(":", " ").split()
    }
    dims = {axis.name for axis in image.axes}
    beside = [
        name
        for name, each in group.coordinates.items()
        if set(each.dims) <= dims and each.dims != (name,) and name not in referred
    ]
    own = {each.name for each in image.coordinates}
    named = [name for name in beside if name in own]
    attributes.pop("coordinates", None)
    if named:
        attributes["coordinates"] = " ".join(named)
    return attributes


def coordinate_attributes(coordinate: Coordinate) -> dict[str, Any]:
    return _attributes(coordinate.attributes, coordinate.values.dtype)


def _attributes(source: Json, dtype: np.dtype[Any]) -> dict[str, Any]:
    out = {}
    for key, value in source.items():
        if key == "_FillValue":
            value = encoded_fill(value, dtype)
        elif key == "missing_value":
            value = _finite(value)
        else:
            value = json_value(value)
        if value is not None:
            out[str(key)] = value
    return out


def encoded_fill(value: Any, dtype: np.dtype[Any]) -> Any:
    """`_FillValue` as xarray encodes it for Zarr v3 (a plain float breaks it); None where no pixel can have it."""
    number = np.ravel(value)[0]
    match dtype.kind:
        case "b":
            return bool(number)
        case "i" | "u":
            info = np.iinfo(dtype)
            whole = np.isfinite(number) and int(number) == number and info.min <= int(number) <= info.max
            return int(number) if whole else None
        case "f":
            return _base64(float(number))
        case _:
            return [_base64(complex(number).real), _base64(complex(number).imag)]


def _base64(number: float) -> str:
    return base64.standard_b64encode(struct.pack("<d", number)).decode()


def _finite(value: Any) -> Any:
    """`missing_value` without NaN, which marks itself and which JSON cannot hold."""
    numbers = [each for each in np.ravel(value).tolist() if isinstance(each, int | float) and math.isfinite(each)]
    return None if not numbers else numbers[0] if np.ndim(value) == 0 or len(numbers) == 1 else numbers


def json_value(value: Any) -> Any:
    """`value` as JSON: NumPy becomes numbers and lists; what JSON cannot hold becomes text."""
    match value:
        case np.ndarray():
            return [json_value(each) for each in value.tolist()]
        case np.generic():
            return json_value(value.item())
        case bool() | int() | str() | None:
            return value
        case float():
            return _spelled(value)
        case bytes():
            return value.decode("utf-8", "replace")
        case Mapping():
            return {str(key): json_value(each) for key, each in value.items()}
        case Iterable():
            return [json_value(each) for each in value]
        case _:
            return str(value)


# -- OME-NGFF ------------------------------------------------------------------------------------


def ome_of_series() -> dict[str, Any]:
    """The root's `ome` where the images ``0``, ``1`` … are unequal."""
    return {"version": NGFF_VERSION, "bioformats2raw.layout": 3}


def ome_series_list(count: int) -> dict[str, Any]:
    """The `ome` of the group ``OME``: the images in order."""
    return {"version": NGFF_VERSION, "series": [str(i) for i in range(count)]}


def ome_of_group(entries: Sequence[Json], shown: Json) -> dict[str, Any]:
    """The `ome` of a multiscale group: an entry for each variable, and how the first is `shown`."""
    return {"version": NGFF_VERSION, "multiscales": list(entries), "omero": dict(shown)}


def multiscale(
    member: Member,
    reduction: Reduction,
    windows: Sequence[Window],
    histograms: Sequence[Histogram],
    *,
    northward: bool,
) -> dict[str, Any]:
    """The entry of one variable.

    Beside what NGFF names, `omero` says how this variable is shown (NGFF has it for the first alone), and
    `metadata` holds a histogram for each channel, whether rows go from south to north (`northward`), and whether
    it is a photograph in `grey`.
    """
    image = member.image
    return {
        "name": image.name,
        "axes": [ome_axis(axis) for axis in image.axes],
        "datasets": [
            {
                "path": f"{k}/{image.name}",
                "coordinateTransformations": [
                    {"type": "scale", "scale": scale_of(image, level)},
                    {"type": "translation", "translation": translation_of(image, level)},
                ],
            }
            for k, level in enumerate(member.levels)
        ],
        "type": reduction.value,
        "metadata": {
            "description": _DESCRIPTIONS[reduction],
            "method": "scientistcloud.omezarr.pyramid.downsample",
            "version": __version__,
            "kwargs": {"reduction": reduction.name, "fill": json_value(image.fill)},
            "histograms": [each.as_json() for each in histograms],
            "northward": northward,
            "grey": image.rgb and not image.channels,
        },
        "omero": omero(image, windows),
    }


def ome_axis(axis: Axis) -> dict[str, Any]:
    out: dict[str, Any] = {"name": axis.name}
    if axis.kind is not AxisKind.CUSTOM:
        out["type"] = axis.kind.value
    units = {AxisKind.SPACE: LENGTHS, AxisKind.TIME: TIMES}.get(axis.kind, frozenset())
    if axis.unit in units:  # viewers throw on any other; the unit then stands in CF `units` alone
        out["unit"] = axis.unit
    return out


def scale_of(image: Image, level: Level) -> list[float]:
    """``s·f``: the spacing of the level's pixels; f where the source's spacing is not known."""
    return [(axis.spacing or 1.0) * f for axis, f in zip(image.axes, level.factors, strict=True)]


def translation_of(image: Image, level: Level) -> list[float]:
    """``t + s·(f − 1)/2``: the centre of the level's first pixel."""
    return [
        axis.origin + (axis.spacing or 1.0) * (f - 1) / 2 for axis, f in zip(image.axes, level.factors, strict=True)
    ]


def omero(image: Image, windows: Sequence[Window]) -> dict[str, Any]:
    """How the image is shown: a channel each, with its colour and window."""
    middle = {axis.name: axis.length // 2 for axis in image.axes}
    space = [axis.name for axis in image.axes if axis.kind is AxisKind.SPACE]
    time = next((axis.name for axis in image.axes if axis.kind is AxisKind.TIME), None)
    return {
        "channels": [
            {
                "label": channel.label,
                "color": channel.color,
                "active": True,
                "window": window.as_json(),
            }
            for channel, window in zip(channels_of(image, len(windows)), windows, strict=True)
        ],
        "rdefs": {
            "model": "color" if image.rgb or len(windows) > 1 else "greyscale",
            "defaultZ": middle[space[0]] if len(space) == 3 else 0,
            "defaultT": middle[time] if time else 0,
        },
    }


def channels_of(image: Image, count: int) -> Sequence[Channel]:
    """The image's channels; made up where the reader knows of none."""
    if len(image.channels) == count:
        return image.channels
    if image.rgb:
        named = (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"), ("alpha", "FFFFFF"))
        return [Channel(label=label, color=color) for label, color in named[:count]]
    if count == 1:
        return [Channel(label=str(image.attributes.get("long_name", image.name)))]
    return [Channel(label=f"channel {i}", color=_COLORS[i % len(_COLORS)]) for i in range(count)]


# -- where it came from ---------------------------------------------------------------------------


def limited(metadata: Json, *, max_bytes: int = SOURCE_METADATA_BYTES) -> dict[str, Any]:
    """The source's metadata, its largest entries left out until it has `max_bytes`; says which."""
    kept = {str(key): json_value(value) for key, value in metadata.items()}
    sizes = {key: len(json.dumps(value)) for key, value in kept.items()}
    left_out = []
    for key in sorted(sizes, key=lambda key: sizes[key], reverse=True):
        if sum(sizes[each] for each in kept) <= max_bytes:
            break
        left_out.append(key)
        del kept[key]
    return {**kept, "left_out": sorted(left_out)} if left_out else kept


def keywords(metadata: Json, *, most: int = KEYWORDS_CHARACTERS) -> str:
    """The texts among the values of the source's metadata, each once, a line each, `most` characters in all.

    Numbers and identifiers are left out, of long texts the beginning is kept; of XML the attributes and what
    stands between the tags, so that an OME-TIFF is found by the names of its channels.
    """
    found: dict[str, None] = {}
    length = 0
    for text in _texts(metadata):
        text = text[:_LONGEST_KEYWORD]
        if len(text) < 3 or _NO_WORD.fullmatch(text) or text in found:
            continue
        if (length := length + len(text) + 1) > most:
            break
        found[text] = None
    return "\n".join(found)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        if value.lstrip().startswith("<"):
            yield from (" ".join((a or b).split()) for a, b in _IN_XML.findall(value))
        else:
            yield " ".join(value.split())
