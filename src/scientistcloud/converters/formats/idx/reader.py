"""`IdxReader`: the fields of one or several IDX as images."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scientistcloud.converters import openvisus
from scientistcloud.converters.choice import check_plausible, rank, reason, unique
from scientistcloud.converters.formats.idx.header import IdxHeader, read_header
from scientistcloud.converters.openvisus import OpenVisus
from scientistcloud.errors import UnreadableSource, UnsupportedSource
from scientistcloud.omezarr.image import Array, Axis, AxisKind, Channel, Image, Region, Source

_DTYPE = re.compile(r"(u?int(?:8|16|32|64)|float(?:32|64))(?:\[(\d+)\])?")
_COLOURS = (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"), ("alpha", "FFFFFF"))
_NAMES = ("x", "y", "z")
_MOST_COMPONENTS = 64


@dataclass(slots=True)
class _Opened:
    """One IDX."""

    header: IdxHeader
    process: OpenVisus
    #: x first.
    low: list[int]
    high: list[int]
    times: list[float]
    #: The box that the finest blocks make, x first: what is read fastest.
    block: list[int]
    states: dict[Path, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class _View:
    """An image, as a field of an IDX."""

    opened: _Opened
    field: str
    image: Image


class IdxReader:
    """IDX of OpenVisus, as (t, c, z, y, x); values block by block at full resolution."""

    def __init__(self, files: Sequence[Path], *, root: Path) -> None:
        headers = [read_header(path, root) for path in files]
        openvisus.need(files[0].name)
        self._opened: list[_Opened] = []
        self._said: list[str] = []
        try:
            found = [view for header in headers for view in self._open(header, several=len(headers) > 1)]
        except BaseException:
            self.close()
            raise
        found.sort(key=lambda view: rank(view.image), reverse=True)
        names = unique([f"{view.opened.header.path.stem}/{view.image.name}" for view in found])
        self._views = [
            replace(view, image=replace(view.image, name=name)) for view, name in zip(found, names, strict=True)
        ]
        images = tuple(view.image for view in self._views)
        self._source = Source(
            sensor="IDX",
            images=images,
            reader=openvisus.library(),
            reason=reason(images),
            warnings=tuple(dict.fromkeys(self._said)),
            metadata={
                header.path.name: {"header": header.path.read_text("utf-8", "replace")} for header in headers
            },
            files=tuple(file for header in headers for file in header.files),
        )

    def describe(self) -> Source:
        return self._source

    def read(self, image: int, region: Region) -> Array:
        view = self._views[image]
        opened, axes = view.opened, view.image.axes
        self._must_be_unchanged(opened)
        parts = {axis.name: part for axis, part in zip(axes, region, strict=True)}
        space = [axis.name for axis in axes if axis.kind is AxisKind.SPACE]
        times = parts.get("t", slice(0, 1)) if len(opened.times) > 1 else slice(0, 1)
        box = [(parts[name].start, parts[name].stop) for name in reversed(space)]
        corners = [[low + part[end] for low, part in zip(opened.low, box, strict=True)] for end in (0, 1)]
        steps = [self._box(view, corners, opened.times[step]) for step in range(times.start, times.stop)]
        made = np.stack(steps)  # (t, z, y, x) or (t, z, y, x, c)
        if any(axis.kind is AxisKind.CHANNEL for axis in axes):
            made = np.moveaxis(made, -1, 1)[:, parts["c"]]
        return np.ascontiguousarray(made if len(opened.times) > 1 else made[0])

    def close(self) -> None:
        for opened in self._opened:
            opened.process.close()

    def _open(self, header: IdxHeader, *, several: bool) -> list[_View]:
        name = header.path.name
        process = OpenVisus()
        states = {path: _state(path) for path in (header.path, *header.files)}
        opened = _Opened(header, process, [], [], [], [], states)
        self._opened.append(opened)
        try:
            said, _ = process.ask(
                "open",
                path=str(header.path.absolute()),
                template=header.template,
                time_template=header.time_template,
            )
        except UnreadableSource as failed:
            raise UnreadableSource(f"{name} cannot be opened: {failed}; upload it again") from failed
        opened.low, opened.high = said["box"]
        opened.times = said["times"] or [0.0]
        lengths = [high - low for low, high in zip(opened.low, opened.high, strict=True)]
        opened.block = _finest(said["bitmask"], said["bits_per_block"], lengths)
        if not 2 <= len(lengths) <= 3 or min(lengths) < 1:
            raise UnsupportedSource(f"{name} has the box {lengths}; two or three axes make a picture")
        self._look_for_gaps(header, opened)
        views = []
        for field in said["fields"]:
            known = _DTYPE.fullmatch(field["dtype"])
            count = int(known.group(2) or 1) if known else 0
            if known is None or not 1 <= count <= _MOST_COMPONENTS:
                self._said.append(f"{name}: the field {field['name']} holds {field['dtype']}, which is left out")
                continue
            dtype = np.dtype(known.group(1))
            claimed = math.prod(lengths) * count * dtype.itemsize * len(opened.times)
            check_plausible(name, f"the field {field['name']}", claimed, sum(size for size, _ in states.values()))
            image = _image(header, opened, field["name"], dtype, count, label=name if several else "")
            views.append(_View(opened, field["name"], image))
        if not views:
            raise UnsupportedSource(f"{name} has no field that a picture can be made of")
        return views

    def _look_for_gaps(self, header: IdxHeader, opened: _Opened) -> None:
        """Say which steps in time were never written."""
        if not header.time_template or len(opened.times) < 2:
            return
        number = re.compile(r"%0?(\d{0,2})d")
        empty = []
        for time in opened.times:
            digits = [f"{int(time):0{int(width or 0)}d}" for width in number.findall(header.time_template)]
            folder = number.sub(digits[0], header.time_template) if digits else header.time_template
            if not any(file.is_relative_to(header.folder / folder.strip("/")) for file in header.files):
                empty.append(f"{time:g}")
        if len(empty) == len(opened.times):
            raise UnreadableSource(
                f"{header.path.name}: no step in time has its blocks; upload the folder with them"
            )
        if empty:
            shown = ", ".join(empty[:8]) + (" …" if len(empty) > 8 else "")
            self._said.append(
                f"{header.path.name}: nothing was written of the steps in time {shown}; they are empty"
            )

    def _box(self, view: _View, corners: list[list[int]], time: float) -> Array:
        try:
            said, body = view.opened.process.ask("read", field=view.field, time=time, box=corners)
        except UnreadableSource as failed:
            name = view.opened.header.path.name
            raise UnreadableSource(f"{name} is damaged: {failed}; upload it with all its blocks again") from failed
        return np.frombuffer(body, np.dtype(said["dtype"])).reshape(said["shape"])

    def _must_be_unchanged(self, opened: _Opened) -> None:
        for path, state in opened.states.items():
            if _state(path) != state:
                raise UnreadableSource(f"{path.name} changed while it was read; convert it again")


def _image(
    header: IdxHeader, opened: _Opened, field: str, dtype: np.dtype[Any], count: int, *, label: str
) -> Image:
    space = [_axis(header, opened, place) for place in range(len(opened.low))]
    axes = list(reversed(space))
    channels: tuple[Channel, ...] = ()
    rgb = count in (3, 4) and dtype.kind == "u" and dtype.itemsize <= 2
    if count > 1:
        usual = [Channel(label=name, color=colour) for name, colour in _COLOURS[:count]]
        channels = tuple(usual if rgb else [Channel(label=f"component {number + 1}") for number in range(count)])
        axes.insert(0, Axis(name="c", kind=AxisKind.CHANNEL, length=count))
    timed = len(opened.times) > 1
    if timed:
        steps = set(np.diff(opened.times).tolist())
        spacing = steps.pop() if len(steps) == 1 else None
        time = Axis(name="t", kind=AxisKind.TIME, length=len(opened.times), spacing=spacing, origin=opened.times[0])
        axes.insert(0, time)
    # Components come last in the source.
    order = [*range(int(timed)), int(timed) + len(space), *range(int(timed), int(timed) + len(space))]
    chunk = [*([1] if timed else []), *([count] if count > 1 else []), *reversed(opened.block)]
    return Image(
        name=field,
        source_name=", ".join(filter(None, (label, field))),
        axes=tuple(axes),
        dtype=dtype,
        channels=channels,
        rgb=rgb,
        upward=len(space) == 2,
        transposed=tuple(order) if count > 1 else None,
        source_chunk=tuple(min(size, axis.length) for size, axis in zip(chunk, axes, strict=True)),
    )


def _axis(header: IdxHeader, opened: _Opened, place: int) -> Axis:
    low, high = opened.low[place], opened.high[place]
    named = [name.lower() for name in header.axes]
    taken = len(set(named)) == len(opened.low) == len(named) and not {"t", "c"} & set(named)
    axis = Axis(name=named[place] if taken else _NAMES[place], kind=AxisKind.SPACE, length=high - low)
    if header.physical is not None and len(header.physical) == len(opened.low):
        start, end = header.physical[place]
        spacing = (end - start) / (high - low)
        return replace(axis, spacing=spacing, origin=start + spacing / 2)  # the box goes from edge to edge
    return replace(axis, spacing=1.0, origin=float(low)) if low else axis


def _finest(bitmask: str, bits_per_block: int, lengths: Sequence[int]) -> list[int]:
    """The box, x first, in which the samples of one block of the finest level lie."""
    box = [1] * len(lengths)
    for bit in reversed(bitmask[1:][-(bits_per_block + 1) :]):
        axis = int(bit)
        box[axis] = min(2 * box[axis], lengths[axis])
    return box


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError as gone:
        raise UnreadableSource(f"{path.name} is gone; upload it again") from gone
    return status.st_size, status.st_mtime_ns
