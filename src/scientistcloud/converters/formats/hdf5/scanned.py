"""A scan as the writer sees it: the whole of it as a plain array, and images made of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scientistcloud.converters.choice import unique
from scientistcloud.converters.formats.hdf5.axes import Axes, ReadAll, Scale, physical, units_of
from scientistcloud.converters.formats.hdf5.describing import attributes_of, axis_of, coordinates_of, fill_of
from scientistcloud.converters.formats.hdf5.maps import Maps
from scientistcloud.converters.formats.hdf5.scan import Scan
from scientistcloud.converters.formats.hdf5.tree import Dataset, Tree
from scientistcloud.converters.formats.hdf5.values import Values, chunk_of
from scientistcloud.converters.units import ome_length
from scientistcloud.omezarr.grid import shard_of
from scientistcloud.omezarr.image import Array, Axis, AxisKind, Coordinate, Image, PlainArray, Region

_CHUNK_VALUES = 1 << 17
_MAPS = {
    "sum": "sum over the detector",
    "centre_of_mass_y": "centre of mass along the detector's rows",
    "centre_of_mass_x": "centre of mass along the detector's columns",
    "mean_frame": "mean over the scan",
    "maximum_frame": "maximum over the scan",
}
_RATIO = "I0_over_It"
_PIXEL_MASK = "pixel_mask"
_SKETCHED = ("sum", "mean_frame", "maximum_frame")  # what does not depend on how far picked pixels lie apart


@dataclass(frozen=True, slots=True, eq=False)
class Scanned:
    """A scan, and what is made of it."""

    scan: Scan
    array: PlainArray
    #: The sum over the detector first.
    images: tuple[Image, ...]
    maps: Maps
    ratio: Array | None
    warnings: tuple[str, ...]

    def read_image(self, number: int, region: Region) -> Array:
        name = self.images[number].name.removeprefix("scan_")
        return (
            self.ratio[region].copy() if name == _RATIO and self.ratio is not None else self.maps.get(name, region)
        )


def scanned(scan: Scan, tree: Tree, values: Values) -> Scanned:
    """Describe `scan`. Reads coordinates and beam intensities, no frame."""
    read_all = values.all
    axes, coordinates = _axes(scan, read_all)
    chunk = both_ways(scan.shape)
    shard = shard_of(scan.shape, chunk, item_bytes=scan.dataset.dtype.itemsize)
    mask, warnings = _mask(scan, tree, read_all)
    good = None if mask is None else mask == 0
    there = scan.frames >= 0
    written = values.written(scan.dataset, len(scan.dataset.shape) - 2)
    if written is not None and written.any() and not written.all():
        never = there & ~written.reshape(-1)[np.maximum(scan.frames, 0)]
        there = there & ~never
        warnings.append(
            f"the scan ended early: {int(never.sum())} of its {never.size} points were never written, and hold the "
            f"file's own fill value {scan.dataset.handle.fillvalue}"
        )
    maps = Maps(
        scan.shape,
        scan.dataset.dtype,
        block=shard,
        there=there,
        good=good,
        read=lambda region: scan.read(values, region),
    )
    if scan.missing:
        warnings.append(
            f"the scan ended early: {scan.missing} of its {scan.frames.size} points have no frame and are filled "
            f"with {scan.fill:g}"
        )

    def sketch(small: Image, picks: tuple[range, ...], values: Array) -> list[tuple[Image, Array]]:
        few = Maps(
            values.shape,
            values.dtype,
            block=values.shape,
            there=there[np.ix_(*picks[:2])],
            good=None if good is None else good[np.ix_(*picks[2:])],
            read=lambda region: values[region],
        )
        few.see((0, 0, 0, 0), values)
        made = [_image(name, scan, small.axes, small.coordinates) for name in _SKETCHED]
        return [(each, few.get(each.name, tuple(slice(0, n) for n in each.shape))) for each in made]

    array = PlainArray(
        image=_whole(scan, axes, (*coordinates, *_mask_beside(mask, axes, coordinates))),
        path="data/0",
        chunk=chunk,
        shard=shard,
        seen=maps.see,
        sketch=sketch,
    )
    ratio = _ratio(scan, tree, read_all)
    if ratio is not None:
        warnings.append(f"{_RATIO} is {ratio[1].path} divided by {ratio[2].path}")
    names = ["sum", *([_RATIO] if ratio is not None else []), *list(_MAPS)[1:]]
    images = tuple(_image(name, scan, axes, coordinates) for name in names)
    return Scanned(scan, array, images, maps, ratio[0] if ratio else None, tuple(warnings))


def both_ways(shape: Sequence[int]) -> tuple[int, ...]:
    """A chunk of which a frame touches about as many as the map of one pixel over the scan does.

    The axis is doubled, of the pair of axes (scan or frame) with more chunks, that has the most chunks.
    """
    chunk = [1] * 4
    while True:
        counts = [-(-n // c) for n, c in zip(shape, chunk, strict=True)]
        pair = (2, 3) if counts[2] * counts[3] >= counts[0] * counts[1] else (0, 1)
        axis = max(pair, key=lambda i: (counts[i], i))
        wider = min(2 * chunk[axis], shape[axis])
        if counts[axis] == 1 or math.prod(chunk) // chunk[axis] * wider > _CHUNK_VALUES:
            return tuple(chunk)
        chunk[axis] = wider


# -- axes ------------------------------------------------------------------------------------------


def _axes(scan: Scan, read_all: ReadAll) -> tuple[tuple[Axis, ...], tuple[Coordinate, ...]]:
    """Axes of the whole array, and its coordinates."""
    known, frames = scan.axes, scan.frames
    frame = len(scan.dataset.shape) - 2
    if not scan.flat and not scan.missing:
        renamed = Axes(_named(known, ("scan_y", "scan_x", "y", "x")), known.scales)
        axes = [
            axis_of(renamed.names[dim], AxisKind.SPACE, scan.shape[dim], renamed.along(dim), read_all)
            for dim in range(4)
        ]
        return tuple(axes), tuple(coordinates_of(scan.plot, renamed, {}, read_all, []))
    known = Axes(_named(known, ("scan_y", "scan_x", "y", "x")[2 - frame :]), known.scales)
    inner = [
        axis_of(known.names[dim], AxisKind.SPACE, scan.dataset.shape[dim], known.along(dim), read_all)
        for dim in (frame, frame + 1)
    ]
    names = unique(["scan_y", "scan_x"], taken=[axis.name for axis in inner])
    along = [scale for scale in known.scales if scan.flat and scale.dims == (0,) and not scale.edges]
    places = {
        scale.name: _at_points(physical(scale, read_all(scale.dataset).reshape(-1)), frames) for scale in along
    }
    outer = [_scan_axis(names[dim], frames.shape[dim], dim, along, places) for dim in (0, 1)]
    axes = [*outer, *inner]
    coordinates = [
        Coordinate(name=name, dims=(names[0], names[1]), values=places[scale.name], attributes=_units_said(scale))
        for name, scale in zip(
            unique([scale.name for scale in along], taken=[axis.name for axis in axes]), along, strict=True
        )
    ]
    of_frame = Axes(known.names, [scale for scale in known.scales if min(scale.dims) >= frame])
    coordinates += coordinates_of(scan.plot, of_frame, {}, read_all, [])
    return tuple(axes), tuple(coordinates)


def _named(known: Axes, names: Sequence[str]) -> list[str]:
    """The names of the dimensions, `names` for those that the file does not call anything."""
    made_up = {"z", "y", "x", *(f"dim_{dim}" for dim in range(4))}
    return unique([
        new if old in made_up and known.along(dim) is None else old
        for dim, (old, new) in enumerate(zip(known.names, names, strict=True))
    ])  # fmt: skip


def _at_points(along: Array, frames: Array) -> Array:
    out = np.full(frames.shape, np.nan)
    there = frames >= 0
    out[there] = along[frames[there]]
    return out


def _scan_axis(name: str, length: int, dim: int, along: Sequence[Scale], places: dict[str, Array]) -> Axis:
    """With the spacing of the position that moves along it and not along the other, where there is one."""
    plain = Axis(name=name, kind=AxisKind.SPACE, length=length)
    for scale in along:
        place = places[scale.name]
        moves, stands = (float(np.nanmax(np.abs(np.diff(place, axis=a)), initial=0.0)) for a in (dim, 1 - dim))
        if length < 2 or moves < 5 * stands:
            continue
        with np.errstate(all="ignore"):
            line = np.nanmean(place, axis=1 - dim)
        step = (line[-1] - line[0]) / (length - 1)
        if step and np.allclose(np.diff(line), step, rtol=0.1):  # encoders tremble
            origin = float(line[0]) if step > 0 else 0.0
            return replace(plain, spacing=abs(float(step)), origin=origin, unit=ome_length(units_of(scale)))
    return plain


def _units_said(scale: Scale) -> dict[str, Any]:
    units = units_of(scale)
    return {"units": units} if units else {}


# -- images ----------------------------------------------------------------------------------------


def _whole(scan: Scan, axes: tuple[Axis, ...], coordinates: tuple[Coordinate, ...]) -> Image:
    signal = scan.dataset
    attributes = attributes_of(scan.plot.name, signal, scan.plot)
    fill = fill_of(signal)
    if scan.missing:
        attributes["_FillValue"] = signal.dtype.type(scan.fill)
        fill = (scan.fill,)
    chunk = chunk_of(signal)
    if chunk and scan.flat:
        chunk = (1, min(chunk[0], scan.shape[1]), *chunk[1:])
    return Image(
        name="0",
        source_name=scan.plot.path,
        axes=axes,
        dtype=signal.dtype,
        attributes=attributes,
        fill=fill,
        coordinates=coordinates,
        source_chunk=chunk,
    )


def _image(name: str, scan: Scan, axes: tuple[Axis, ...], coordinates: tuple[Coordinate, ...]) -> Image:
    over_scan = name.endswith("_frame")
    own = axes[2:] if over_scan else axes[:2]
    names = {axis.name for axis in own}
    whole = attributes_of(scan.plot.name, scan.dataset, scan.plot)
    counts: dict[str, Any] = {key: whole[key] for key in ("units", "scale_factor", "add_offset") if key in whole}
    said: dict[str, Any] = dict(counts) if over_scan else {}
    if name.startswith("centre"):
        said["units"] = "pixel"
    elif name == "sum" and "add_offset" not in whole:
        said = dict(counts)
    what = _MAPS.get(name, "I0 / It")
    return Image(
        name=name,
        source_name=f"{scan.plot.path}, {what}",
        axes=own,
        dtype=scan.dataset.dtype if name == "maximum_frame" else np.dtype(np.float64),
        attributes={**said, "long_name": what},
        coordinates=tuple(each for each in coordinates if set(each.dims) - {"bnds"} <= names),
    )


def _mask(scan: Scan, tree: Tree, read_all: ReadAll) -> tuple[Array | None, list[str]]:
    """The detector's `pixel_mask`, where it excludes a pixel (NXdetector: 0 is good)."""
    frame = scan.dataset.shape[-2:]
    for holder in [*tree.holders.get(scan.dataset.key, []), *([scan.plot.group] if scan.plot.group else [])]:
        found = holder.dataset(_PIXEL_MASK)
        if found is not None and found.is_numeric and found.dtype.kind in "iub" and found.shape == frame:
            mask = read_all(found)
            if bad := int(np.count_nonzero(mask)):
                return mask, [
                    f"{bad} pixels that {found.path} excludes count neither in sums nor in centres of mass"
                ]
    return None, []


def _mask_beside(
    mask: Array | None, axes: Sequence[Axis], coordinates: Sequence[Coordinate]
) -> Iterator[Coordinate]:
    """The mask as it stands in the file, for whoever sums the array again."""
    taken = {axis.name for axis in axes} | {each.name for each in coordinates}
    if mask is not None and _PIXEL_MASK not in taken:
        said = {"long_name": "pixels that do not count, where it is not 0"}
        yield Coordinate(name=_PIXEL_MASK, dims=(axes[2].name, axes[3].name), values=mask, attributes=said)


def _ratio(scan: Scan, tree: Tree, read_all: ReadAll) -> tuple[Array, Dataset, Dataset] | None:
    """I0 / It at each point, from the first place of the file where both are."""
    for group in tree.groups:
        found = {name.lower(): each for name, each in group.datasets() if each.is_numeric}
        before, behind = found.get("i0"), found.get("it")
        if before is None or behind is None:
            continue
        values = []
        for each in (before, behind):
            stored = read_all(each) if math.prod(each.shape) <= scan.frames.size else np.empty(0)
            if stored.shape == scan.frames.shape and not scan.flat:
                values.append(stored.astype(np.float64))
            elif stored.size == math.prod(scan.dataset.shape[:-2]):
                values.append(_at_points(stored.reshape(-1).astype(np.float64), scan.frames))
        if len(values) == 2:
            with np.errstate(all="ignore"):
                return np.where(values[1] != 0, values[0] / values[1], np.nan), before, behind
    return None
