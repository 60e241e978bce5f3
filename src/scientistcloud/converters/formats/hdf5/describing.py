"""Plots as `Image`s: axes, coordinates, attributes, errors beside them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scientistcloud.converters import roles
from scientistcloud.converters.choice import unique
from scientistcloud.converters.formats.hdf5.axes import Axes, ReadAll, Scale, axes_of, physical, scaling, units_of
from scientistcloud.converters.formats.hdf5.plots import Plot
from scientistcloud.converters.formats.hdf5.tree import Dataset, Tree
from scientistcloud.converters.formats.hdf5.values import chunk_of
from scientistcloud.converters.roles import OTHER_NAMES, TIME_NAMES, Meaning
from scientistcloud.converters.spacing import even
from scientistcloud.converters.units import ome_length, ome_time
from scientistcloud.omezarr.image import Array, Axis, AxisKind, Channel, Coordinate, Image, Reduction

# Attributes that tell HDF5 or NeXus something, and nobody else.
_INTERNAL = frozenset((
    "signal", "axes", "axis", "primary", "target", "interpretation", "uncertainties", "offset", "scaling_factor",
    "CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "DIMENSION_LABELS", "NX_class", "napimount",
))  # fmt: skip
_FILLS = ("_FillValue", "missing_value")
_SPECTRAL = re.compile(r"(photon_?|kinetic_?|binding_?)?energ(y|ies)$|.*_energy$")
_SPECTRAL_UNITS = re.compile(r"[kMmu]?eV$|cm-1|1/cm|[TGMk]?Hz$")


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """An image, and which part of which data set it is."""

    image: Image
    dataset: Dataset
    #: Dimension of the data set for each axis of the image.
    order: tuple[int, ...]
    #: Index along each other dimension.
    fixed: dict[int, int]


def described(plot: Plot, tree: Tree, read_all: ReadAll, warnings: list[str]) -> list[Described]:
    """The images that `plot` becomes: its signal, and its errors as a sibling of the same axes."""
    signal = plot.signal
    axes = axes_of(plot, tree)
    warnings += axes.warnings
    meaning = _meaning(plot, axes)
    if meaning.split:
        split = " and ".join(axes.names[dim] for dim in meaning.split)
        warnings.append(f"{plot.path} has more axes than an image may have: one image for each {split}")
    made: list[Described] = []
    for fixed in meaning.views(signal.shape):
        where = "".join(f", {axes.names[dim]} {fixed[dim] + 1}" for dim in meaning.split)
        coordinates = coordinates_of(plot, axes, fixed, read_all, warnings if not made else [])
        image = Image(
            name=plot.name,
            source_name=f"{plot.path}{where}",
            axes=tuple(
                axis_of(axes.names[dim], kind, signal.shape[dim], axes.along(dim), read_all)
                for dim, kind in meaning.axes
            ),
            dtype=signal.dtype,
            attributes=attributes_of(plot.name, signal, plot),
            fill=fill_of(signal),
            reduction=_reduction(signal),
            coordinates=tuple(coordinates),
            channels=_channels(plot, meaning),
            rgb=plot.colours,
            valid_range=_valid_range(signal),
            transposed=meaning.transposed(),
            source_chunk=_chunk(signal, meaning),
        )
        made.append(Described(image, signal, meaning.order, fixed))
        if plot.errors is not None:
            sibling = replace(
                image,
                name=plot.errors_path.rsplit("/", 1)[-1],
                source_name=f"{plot.errors_path}{where}",
                dtype=plot.errors.dtype,
                attributes=attributes_of(plot.errors_path.rsplit("/", 1)[-1], plot.errors, plot),
                fill=fill_of(plot.errors),
                valid_range=None,
                source_chunk=_chunk(plot.errors, meaning),
            )
            made.append(Described(sibling, plot.errors, meaning.order, fixed))
    return made


def named(found: Sequence[Described], prefixes: Sequence[str]) -> list[Image]:
    """The images under names that are unique among them and their coordinates."""
    taken = {coordinate.name for each in found for coordinate in each.image.coordinates}
    paths = [
        f"{prefix}{each.image.source_name.split(', ')[0]}" for each, prefix in zip(found, prefixes, strict=True)
    ]
    return [replace(each.image, name=name) for each, name in zip(found, unique(paths, taken=taken), strict=True)]


def _reduction(signal: Dataset) -> Reduction | None:
    """The most frequent value of what has names for its values, the maximum of counts; None: the data decide."""
    if signal.dtype.kind == "b" or "flag_values" in signal.attributes:
        return Reduction.MODE
    counts = signal.word("units").lower() in ("count", "counts", "cts")
    return Reduction.MAXIMUM if counts and signal.dtype.kind in "iu" else None


# -- axes ------------------------------------------------------------------------------------------


def _meaning(plot: Plot, axes: Axes) -> Meaning:
    shape = plot.signal.shape
    if plot.colours:
        last = len(shape) - 1
        inner = roles.meaning(shape[:-1], times=_times(axes, last), others=range(last - 2))
        planes = [each for each in inner.axes if each[1] is AxisKind.SPACE]
        time = [each for each in inner.axes if each[1] is AxisKind.TIME]
        split = set(range(last)) - {dim for dim, _ in (*planes, *time)}
        return Meaning(
            axes=(*time, (last, AxisKind.CHANNEL), *planes),
            split=tuple(dim for dim in sorted(split) if shape[dim] > 1),
            single=tuple(dim for dim in sorted(split) if shape[dim] == 1),
        )
    times = _times(axes, len(shape))
    others = [dim for dim in range(len(shape)) if dim not in times and _is_other(axes, dim)]
    if len([n for n in shape if n > 1]) <= 2:
        times, others = [], []  # a picture, whatever its axes are
    return roles.meaning(shape, times=times, others=others)


def _times(axes: Axes, rank: int) -> list[int]:
    """Dimensions that are a time: by name, or by a unit of time; never of the last two, which are the picture."""
    return [
        dim
        for dim in range(rank - 2)
        if axes.names[dim].lower() in TIME_NAMES or ome_time(units_of(axes.along(dim))) is not None
    ]


def _is_other(axes: Axes, dim: int) -> bool:
    name = axes.names[dim].lower()
    return bool(
        OTHER_NAMES.match(name) or _SPECTRAL.match(name) or _SPECTRAL_UNITS.match(units_of(axes.along(dim)) or "")
    )


def axis_of(name: str, kind: AxisKind, length: int, scale: Scale | None, read_all: ReadAll) -> Axis:
    plain = Axis(name=name, kind=kind, length=length)
    if scale is None or kind is AxisKind.CHANNEL:
        return plain
    values = physical(scale, read_all(scale.dataset).reshape(-1))
    found = even((values[:-1] + values[1:]) / 2 if scale.edges else values, scale.dataset.dtype)
    if found is None:
        return plain
    units = units_of(scale)
    unit = ome_time(units) if kind is AxisKind.TIME else ome_length(units)
    return replace(plain, spacing=found[0], origin=found[1], unit=unit)


def _channels(plot: Plot, meaning: Meaning) -> tuple[Channel, ...]:
    if not plot.colours:
        return ()
    channels = (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"), ("alpha", "FFFFFF"))
    count = plot.signal.shape[meaning.axes[-3][0]]
    return tuple(Channel(label=label, color=color) for label, color in channels[:count])


def _chunk(dataset: Dataset, meaning: Meaning) -> tuple[int, ...] | None:
    chunk = chunk_of(dataset)
    return tuple(chunk[dim] for dim in meaning.order) if chunk else None


# -- coordinates -----------------------------------------------------------------------------------


def coordinates_of(
    plot: Plot, axes: Axes, fixed: dict[int, int], read_all: ReadAll, warnings: list[str]
) -> list[Coordinate]:
    group = plot.group.path if plot.group else ""
    own = [
        scale
        for scale in axes.scales
        if scale.dims == tuple(axes.names.index(n) for n in (scale.name,) if n in axes.names)
    ]
    others = [scale for scale in axes.scales if scale not in own]
    other_names = unique([f"{group}/{scale.name}" for scale in others], taken=[*axes.names, "bnds"])
    names = [scale.name for scale in own] + other_names
    made: dict[str, Coordinate] = {}
    edges = []
    for scale, name in zip([*own, *others], names, strict=True):
        values = read_all(scale.dataset).reshape([plot.signal.shape[d] + scale.edges for d in scale.dims])
        attributes = _scaled(_plain(scale.dataset), scale.offset, scale.factor)
        dims = tuple(axes.names[dim] for dim in scale.dims if dim not in fixed)
        if scale.edges:
            edges.append(name)
            if dims:
                made[f"{name}_bnds"] = Coordinate(
                    name=f"{name}_bnds", dims=(*dims, "bnds"), values=np.stack([values[:-1], values[1:]], axis=1)
                )
                attributes["bounds"] = f"{name}_bnds"
            values = _centres(values)
        values = values[tuple(fixed.get(dim, slice(None)) for dim in scale.dims)]
        made[name] = Coordinate(name=name, dims=dims, values=np.asarray(values), attributes=attributes)
    if edges:
        warnings.append(f"{', '.join(edges)} of {plot.path} holds the edges of bins; their centres are the axis")
    return list(made.values())


def _centres(edges: Array) -> Array:
    wide = edges.astype(np.float64)
    centres: Array = (wide[:-1] + wide[1:]) / 2
    return centres.astype(edges.dtype) if edges.dtype.kind == "f" else centres


# -- attributes ------------------------------------------------------------------------------------


def _plain(dataset: Dataset) -> dict[str, Any]:
    """The data set's attributes without what is NeXus' and HDF5's own business."""
    return {
        key: value
        for key, value in dataset.attributes.items()
        if key not in _INTERNAL
        and not key.endswith("_indices")
        and not (isinstance(value, str) and not value.strip())
    }


def attributes_of(name: str, dataset: Dataset, plot: Plot) -> dict[str, Any]:
    said = _scaled(_plain(dataset), *scaling(name, dataset, plot.group))
    for key in _FILLS:
        value = said.pop(key, None)
        held = [] if value is None else _held(value, dataset.dtype)
        if held:
            said[key] = held[0] if len(held) == 1 else [each.item() for each in held]
    return said


def _scaled(said: dict[str, Any], offset: float | None, factor: float | None) -> dict[str, Any]:
    """NeXus' ``(v + offset) × factor`` in the words of CF, ``v × scale_factor + add_offset``."""
    if factor is not None and factor != 1.0 and math.isfinite(factor):
        said["scale_factor"] = factor
    if offset is not None and offset and math.isfinite(offset):
        said["add_offset"] = offset * (1.0 if factor is None else factor)
    return said


def fill_of(dataset: Dataset) -> tuple[float | int, ...]:
    marks: dict[float | int, None] = {}
    for key in _FILLS:
        if key in dataset.attributes:
            marks |= dict.fromkeys(each.item() for each in _held(dataset.attributes[key], dataset.dtype))
    return tuple(marks)


def _held(value: Any, dtype: np.dtype[Any]) -> list[Any]:
    """Those of the numbers that a value of `dtype` can be, as scalars of it."""
    numbers = np.ravel(np.asarray(value))
    if numbers.dtype.kind not in "iuf" or dtype.kind not in "iuf":
        return []
    with np.errstate(all="ignore"):
        cast = numbers.astype(dtype)
        same = (cast.astype(numbers.dtype) == numbers) | (numbers != numbers)
    return list(cast[same if dtype.kind in "iu" else np.ones(len(cast), np.bool_)])


def _valid_range(dataset: Dataset) -> tuple[float, float] | None:
    pair = np.ravel(np.asarray(dataset.attributes.get("valid_range", ())))
    if pair.size != 2 or pair.dtype.kind not in "iuf" or not pair[0] < pair[1] or not np.isfinite(pair).all():
        return None
    return float(pair[0]), float(pair[1])
