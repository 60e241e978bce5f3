"""What a page's tags say besides its pixels: no data, palettes, oddities, and the rest for people to search."""

from __future__ import annotations

import enum
import math
from typing import Any

import numpy as np
import tifffile

from scientistcloud.records import Json

# Where the pixels lie is of no interest to people; what is longer than this neither.
_PLACES = {273, 279, 288, 289, 324, 325, 330, 347, 34665, 34853, 50838, 50839}
_LONGEST_TEXT = 1 << 18
_LONGEST_LIST = 3 * 256
_LONGEST_PROFILE = 4 << 20


def nodata(page: tifffile.TiffPage, dtype: np.dtype[Any]) -> tuple[Any, str | None]:
    """GDAL's "no data" value in `dtype`, and a warning where it is none of its values."""
    text = page.tags.valueof(42113)
    if text is None:
        return None, None
    try:
        value = float(str(text).strip("\0 "))
    except ValueError:
        return None, f"its no-data value {str(text)!r} is no number and was left out"
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(value), None
    whole = math.isfinite(value) and value.is_integer()
    if dtype.kind in "iu" and whole and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        return dtype.type(int(value)), None
    return None, f"its no-data value {value:g} is none that {dtype} can hold and was left out"


def indices(page: tifffile.TiffPage) -> bool:
    """Whether pixels are numbers of colours, which must not be averaged.

    ImageJ writes its display ramps as palettes too, and a ramp of greys is no palette: those are intensities.
    """
    if int(page.photometric) != 3 or page.is_imagej:
        return False
    palette = page.colormap
    if palette is None or not palette.size:
        return True
    brightness = palette.astype(np.int64).sum(axis=0)
    return not bool((np.diff(brightness) >= 0).all() and (palette == palette[0]).all())


def profile(page: tifffile.TiffPage) -> bytes:
    """The ICC profile of the page's colours; empty where there is none."""
    tag = page.tags.get(34675)
    return bytes(tag.value) if tag is not None and tag.count <= _LONGEST_PROFILE else b""


def oddities(page: tifffile.TiffPage) -> list[str]:
    """What is not done with the pixels, though a viewer would."""
    found = []
    if int(page.photometric) == 0:
        found.append("0 is white in it; the values are kept as they are")
    if indices(page):
        found.append("its values are numbers of colours; they are kept, and the palette is in the metadata")
    if int(page.tags.valueof(274, default=1)) != 1:
        found.append("its orientation tag is kept in the metadata, and its pixels in the order of the file")
    return found


def metadata(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> Json:
    """Tags of the first picture's first page and the dialects' own descriptions, as JSON values."""
    out: dict[str, Any] = {}
    tags = {tag.name: _plain(tag.value) for tag in page.tags if _is_short(tag)}
    out["tags"] = {name: value for name, value in tags.items() if value is not None}
    described = {
        "ome_xml": tiff.ome_metadata,
        "imagej": tiff.imagej_metadata,
        "metamorph": tiff.stk_metadata,
        "geokeys": _numbers(page.geotiff_tags or {}),
    }
    for name, value in described.items():
        kept = _plain(value) if value else None
        if kept is not None:
            out[name] = kept
    return out


def _is_short(tag: tifffile.TiffTag) -> bool:
    """Longer values stay in the file."""
    return tag.code not in _PLACES and tag.count <= _LONGEST_TEXT


def _numbers(keys: dict[Any, Any]) -> dict[str, Any]:
    """GeoKeys by the codes that the standard gives them."""
    return {str(key): int(value) if isinstance(value, enum.IntEnum) else value for key, value in keys.items()}


def _plain(value: Any) -> Any:
    """`value` as JSON; None for what is too long or has no such form."""
    match value:
        case None | bool():
            return value
        case enum.Enum():
            return _plain(value.name if isinstance(value.value, int) else value.value)
        case str():
            return value if len(value) <= _LONGEST_TEXT else None
        case bytes():
            return value.decode("latin-1") if len(value) <= 256 and value.isascii() else None
        case int():
            return int(value)
        case float():
            return value if math.isfinite(value) else repr(value)
        case np.generic():
            return _plain(value.item())
        case np.ndarray():
            return _plain(value.tolist()) if value.size <= _LONGEST_LIST else None
        case dict():
            return {str(key): _plain(each) for key, each in value.items() if _plain(each) is not None}
        case list() | tuple():
            return [_plain(each) for each in value] if len(value) <= _LONGEST_LIST else None
        case _:
            return str(value)[:256]
