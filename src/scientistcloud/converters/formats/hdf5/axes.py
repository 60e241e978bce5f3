"""The axes of a plot: their names, and the coordinates along them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scientistcloud.converters.formats.hdf5 import texts
from scientistcloud.converters.formats.hdf5.plots import Plot
from scientistcloud.converters.formats.hdf5.tree import Dataset, Group, Tree
from scientistcloud.converters.hdf5_links import DAMAGES
from scientistcloud.omezarr.image import Array

_COORDINATE_BYTES = 64 << 20
_NAMES = ("z", "y", "x")

ReadAll = Callable[[Dataset], Array]


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """A coordinate of a plot."""

    name: str
    #: The dimensions of the signal that it lies along.
    dims: tuple[int, ...]
    dataset: Dataset
    #: Physical values are ``(stored + offset) × factor``.
    offset: float | None = None
    factor: float | None = None
    #: Whether it has one value more than there are pixels: the edges of bins.
    edges: bool = False


@dataclass(slots=True)
class Axes:
    """What is known of a signal's dimensions."""

    #: One for each dimension.
    names: list[str] = field(default_factory=list)
    scales: list[Scale] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def along(self, dim: int) -> Scale | None:
        """The coordinate that gives dimension `dim` its name and its values."""
        return next((s for s in self.scales if s.dims == (dim,) and s.name == self.names[dim]), None)


def axes_of(plot: Plot, tree: Tree) -> Axes:
    """By NeXus where the group says, else by HDF5's dimension scales, else `z`, `y`, `x`."""
    shape = plot.signal.shape
    names: list[str | None] = [None] * len(shape)
    found = Axes()
    if plot.group is not None:
        _by_nexus(plot, plot.group, names, found)
    _by_scales(plot.signal, tree, names, found)
    found.names = _filled(names)
    found.scales = [scale for scale in found.scales if scale.dataset.key != plot.signal.key]
    return found


# -- NeXus -----------------------------------------------------------------------------------------


def _by_nexus(plot: Plot, group: Group, names: list[str | None], found: Axes) -> None:
    for dim, name in enumerate(_axis_names(plot, group)[: len(names)]):
        if name not in ("", "."):
            names[dim] = name
    indices = {
        key.removesuffix("_indices"): [int(each) for each in np.ravel(value)]
        for key, value in group.attributes.items()
        if key.endswith("_indices") and np.asarray(value).dtype.kind in "iu"
    }
    for name, dims in indices.items():
        if len(dims) == 1 and 0 <= dims[0] < len(names) and names[dims[0]] is None:
            names[dims[0]] = name
    for name in dict.fromkeys([*(each for each in names if each), *indices]):
        dataset = group.dataset(name)
        dims = [dim for dim in indices.get(name, []) if 0 <= dim < len(names)]
        dims = dims or [dim for dim, each in enumerate(names) if each == name]
        if dataset is None:
            if name in indices:
                found.warnings.append(f"{group.path} names the axis {name}, but does not hold it")
            continue
        _take(plot.signal, name, dims, dataset, group, found)


def _axis_names(plot: Plot, group: Group) -> list[str]:
    """`@axes` of the group or, in old files, of the signal, or what carries `@axis`."""
    for said in (group.attributes.get("axes"), plot.signal.attributes.get("axes")):
        words = texts.words(said)
        if len(words) == 1:  # "[energy,angle]", "energy:angle"
            words = re.split(r"[:,]", words[0].strip("[] "))
        if any(words):
            return [word.strip() for word in words]
    marked: dict[int, tuple[float, str]] = {}
    for name, child in group.datasets():
        number = texts.first_number(child.attributes.get("axis"))
        if number is None or not 1 <= number <= len(plot.signal.shape):
            continue
        primary = texts.first_number(child.attributes.get("primary")) or 2
        dim = int(number) - 1
        if dim not in marked or primary < marked[dim][0]:
            marked[dim] = primary, name
    return [marked[dim][1] if dim in marked else "" for dim in range(max(marked, default=-1) + 1)]


def _take(signal: Dataset, name: str, dims: list[int], dataset: Dataset, group: Group | None, found: Axes) -> None:
    """Keep `dataset` as the coordinate `name` along `dims`, if it fits."""
    if not dataset.is_numeric or dataset.dtype.kind not in "iuf" or not dims:
        return
    lengths = tuple(signal.shape[dim] for dim in dims)
    shape = dataset.shape or (1,)
    scale = Scale(name, tuple(dims), dataset, *scaling(name, dataset, group))
    if math.prod(shape) * dataset.dtype.itemsize > _COORDINATE_BYTES:
        found.warnings.append(f"the axis {dataset.path} has more than 64 MiB and was left out")
    elif shape == lengths:
        found.scales.append(scale)
    elif len(dims) == 1 and shape == (lengths[0] + 1,):
        found.scales.append(replace(scale, edges=True))
    elif len(dims) == 1 and len(shape) == 1:
        found.warnings.append(
            f"the axis {dataset.path} has {shape[0]} values for {lengths[0]} pixels and was left out"
        )
    else:
        found.warnings.append(f"the axis {dataset.path} {shape} does not fit {lengths} pixels and was left out")


def scaling(name: str, dataset: Dataset, group: Group | None) -> tuple[float | None, float | None]:
    """Offset and factor by NeXus of what is called `name` in `group`; None where there is none.

    Values are ``(stored + offset) × factor``, unlike in CF.
    """
    out = []
    for word in ("offset", "scaling_factor"):
        number = texts.first_number(dataset.attributes.get(word))
        if number is None and group is not None:
            # A bare `scaling_factor` in the group is the signal's.
            named = [f"{name}_{word}", *([word] if _is_signal(name, dataset, group) else [])]
            fields = [found for each in named if (found := group.dataset(each)) and math.prod(found.shape) == 1]
            number = texts.first_number(_value(fields[0])) if fields else None
        out.append(number)
    return out[0], out[1]


def physical(scale: Scale, stored: Array) -> Array:
    """Values of a coordinate in their unit, as float64."""
    values = stored.astype(np.float64)
    if scale.offset is not None:
        values = values + scale.offset
    return values if scale.factor is None else values * scale.factor


def units_of(scale: Scale | None) -> str | None:
    return (scale.dataset.word("units") or None) if scale else None


def _is_signal(name: str, dataset: Dataset, group: Group) -> bool:
    return group.word("signal") == name or texts.first_number(dataset.attributes.get("signal")) == 1


def _value(dataset: Dataset) -> Any:
    try:
        return dataset.handle[()] if dataset.is_numeric and dataset.outside is None else None
    except DAMAGES:
        return None


# -- dimension scales ------------------------------------------------------------------------------


def _by_scales(signal: Dataset, tree: Tree, names: list[str | None], found: Axes) -> None:
    """HDF5's own: labels and scales of the dimensions for which NeXus has no word."""
    open_ = [dim for dim, name in enumerate(names) if name is None]
    if not any(key in signal.handle.attrs for key in ("DIMENSION_LIST", "DIMENSION_LABELS")):
        return
    for dim in open_:
        try:
            known = signal.handle.dims[dim]
            label = texts.text(known.label).strip()
            scales = [tree.known(signal.file, handle) for handle in known.values()]
        except DAMAGES:
            continue
        kept = [each for each in scales if each is not None]
        names[dim] = label or (kept[0].name if kept else None)
        for number, dataset in enumerate(kept):
            name = names[dim] if number == 0 else dataset.name
            assert name is not None
            _take(signal, name, [dim], dataset, None, found)


# -- names -----------------------------------------------------------------------------------------


def _filled(names: list[str | None]) -> list[str]:
    """A name for every dimension: the last three `z`, `y`, `x` where none has any."""
    rank = len(names)
    if any(names):
        filled = [name or f"dim_{dim}" for dim, name in enumerate(names)]
    else:
        filled = [f"dim_{dim}" for dim in range(rank - 3)] + list(_NAMES[max(0, 3 - rank) :])
    seen: set[str] = set()
    for dim, name in enumerate(filled):
        if name in seen:
            filled[dim] = f"{name}_{dim}"
        seen.add(filled[dim])
    return filled
