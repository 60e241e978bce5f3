"""Attributes of a variable in the terms of its values as they are meant."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from scientistcloud.converters.formats.netcdf.roles import since
from scientistcloud.converters.formats.netcdf.variables import Variable
from scientistcloud.omezarr.image import Array, Reduction

# Attributes that hold stored values, and so are of the variable's own type.
_STORED = ("_FillValue", "missing_value", "flag_values", "flag_masks", "valid_range", "valid_min", "valid_max")
_NEVER_WRITTEN = 9.969209968386869e36  # NC_FILL_FLOAT, NC_FILL_DOUBLE
_TURNS = re.compile(r"direction|azimuth|heading|bearing|course|phase|longitude|aspect")
_ANGLE = re.compile(r"degrees?(_?(true|east|e))?|radians?|rad|°")
_IDENTITY = re.compile(r"(^|[_ ])(ids?|identifier|label|mask|flag|category|class|type)s?$")


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a variable's attributes say."""

    #: JSON values and NumPy scalars, `_FillValue` in the variable's type.
    written: dict[str, Any]
    #: Stored values that mean "no data".
    fill: tuple[float | int, ...]
    valid_range: tuple[float, float] | None
    #: Fill values that the variable's type cannot hold, so no value equals them.
    impossible: tuple[Any, ...]


def attributes(variable: Variable) -> Attributes:
    """Of `variable`, whose dtype has taken `_Unsigned` in, so that attribute goes."""
    dtype = variable.dtype
    written: dict[str, Any] = {}
    fill: dict[float | int, None] = {}
    impossible: list[Any] = []
    for key, value in variable.attributes.items():
        if key == "_Unsigned":
            continue
        if key in ("_FillValue", "missing_value"):
            held = [_held(each, dtype) for each in np.atleast_1d(np.asarray(value)).tolist()]
            impossible += [each for each, kept in zip(np.atleast_1d(value), held, strict=True) if kept is None]
            kept = [each for each in held if each is not None]
            fill |= dict.fromkeys(each.item() for each in kept)
            if kept:
                written[key] = kept[0] if len(kept) == 1 else [each.item() for each in kept]
        elif key in _STORED:
            written[key] = _plain(_reread(value, variable))
        else:
            written[key] = _plain(value)
    if dtype.kind == "f" and "_FillValue" not in written:
        fill[dtype.type(_NEVER_WRITTEN).item()] = None
    return Attributes(written, tuple(fill), _valid_range(variable), tuple(impossible))


def reduction(variable: Variable) -> Reduction | None:
    """How levels are made where the mean would be a value that means something else; None: the data decide."""
    whole = variable.dtype.kind in "iu"
    if "flag_values" in variable.attributes:
        return Reduction.MODE
    if "flag_masks" in variable.attributes and whole:
        return Reduction.OR
    words = (variable.name.lower(), variable.text("standard_name"), variable.text("long_name").lower())
    if whole and any(_IDENTITY.search(word) for word in words):
        return (
            Reduction.NEAREST
            if any(re.search(r"(^|[_ ])(ids?|identifier)$", word) for word in words)
            else Reduction.MODE
        )
    units = variable.text("units").lower()
    if since(units):
        return Reduction.NEAREST
    # 359° and 1° meet at 0°, not at 180°.
    return Reduction.NEAREST if _ANGLE.fullmatch(units) and any(_TURNS.search(word) for word in words) else None


def unpacked(variable: Variable, values: Array) -> Array:
    """Physical values: scaled, and NaN where there is none."""
    said = attributes(variable)
    physical = values.astype(np.float64)
    scale, offset = _packing(variable)
    if scale is not None or offset is not None:
        physical = physical * (1.0 if scale is None else scale) + (0.0 if offset is None else offset)
    for each in said.fill:
        physical[values == each] = np.nan
    return physical


def _packing(variable: Variable) -> tuple[float | None, float | None]:
    numbers = [variable.numbers(key) for key in ("scale_factor", "add_offset")]
    scale, offset = (float(found[0]) if found.size else None for found in numbers)
    return scale, offset


def _held(value: Any, dtype: np.dtype[Any]) -> Any:
    """`value` in `dtype`; None where it does not fit."""
    if not isinstance(value, int | float):
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(value)
    if isinstance(value, float) and not value.is_integer():
        return None
    limits, number = np.iinfo(dtype), int(value)
    if limits.min <= number <= limits.max:
        return dtype.type(number)
    # A signed −1 in the attribute of unsigned bytes is 255.
    wrapped = number + 2 * (int(np.iinfo(f"i{dtype.itemsize}").max) + 1)
    return dtype.type(wrapped) if dtype.kind == "u" and number < 0 <= wrapped <= limits.max else None


def _reread(value: Any, variable: Variable) -> Any:
    """Values stored in the type that the file has, as the type that it means."""
    array = np.asarray(value)
    dtype = variable.dtype
    if array.dtype.kind in "iu" and dtype.kind in "iu" and array.dtype.itemsize == dtype.itemsize:
        array = array.astype(dtype)
    return array[()] if array.ndim == 0 else array


def _valid_range(variable: Variable) -> tuple[float, float] | None:
    pair = variable.numbers("valid_range")
    if pair.size != 2:
        pair = np.concatenate([variable.numbers("valid_min")[:1], variable.numbers("valid_max")[:1]])
    if pair.size != 2:
        return None
    pair = np.atleast_1d(_reread(pair, variable))
    low, high = float(pair[0]), float(pair[1])
    scale, offset = _packing(variable)
    # NetCDF Users Guide: a range of a wider type than the packed values is one of unpacked values.
    if pair.dtype.kind == "f" and variable.dtype.kind in "iu" and (scale is not None or offset is not None):
        low, high = sorted(((each - (offset or 0.0)) / (scale or 1.0)) for each in (low, high))
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
