"""`TiffReader`: stacks as images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from scientistcloud.converters import colours
from scientistcloud.converters.choice import check_plausible, rank, reason, unique
from scientistcloud.converters.formats.tiff.axes import Meaning, meaning
from scientistcloud.converters.formats.tiff.calibration import Calibration, calibration, channels, is_rgb
from scientistcloud.converters.formats.tiff.files import Files
from scientistcloud.converters.formats.tiff.geo import Place, place_of
from scientistcloud.converters.formats.tiff.parts import Collector, Part
from scientistcloud.converters.formats.tiff.planes import PageReader
from scientistcloud.converters.formats.tiff.series import BROKEN, listening
from scientistcloud.converters.formats.tiff.stack import Stack, View
from scientistcloud.converters.formats.tiff.tags import indices, metadata, nodata, oddities, profile
from scientistcloud.errors import UnreadableSource
from scientistcloud.omezarr.image import Array, Axis, AxisKind, Channel, Image, Reduction, Region, Source


class TiffReader:
    """The pictures and stacks of one or several TIFF files."""

    def __init__(self, files: Sequence[Path], root: Path, scratch: Path | None) -> None:
        self._files = Files(files)
        self._pages = PageReader(self._files, scratch)
        self._views: list[View] = []
        collector = Collector(self._files, root)
        try:
            heard: list[str] = []
            with listening(heard), np.errstate(all="ignore"):  # tags of nonsense are divided, too
                source = self._open(collector, files)
            self._source = replace(source, warnings=tuple(dict.fromkeys([*source.warnings, *heard])))
        except BROKEN as failed:  # tifffile reads tags when they are asked for
            self.close()
            raise UnreadableSource(f"{files[0].name} cannot be read as TIFF: {failed}; export it anew") from failed
        except BaseException:
            self.close()
            raise
        finally:
            collector.close()

    def describe(self) -> Source:
        return self._source

    def read(self, image: int, region: Region) -> Array:
        return self._views[image].read(self._pages, region)

    def close(self) -> None:
        self._pages.close()
        self._files.close()

    def _open(self, collector: Collector, files: Sequence[Path]) -> Source:
        parts = collector.collect(files)
        said = parts.warnings
        total = sum(self._files.size(file) for file in range(len(self._files.paths)))
        made: list[tuple[Image, View, Part]] = []
        for part in parts.found:
            stack = part.series.stack
            claimed = math.prod(stack.shape) * stack.codec.dtype.itemsize
            check_plausible(files[0].name, f"{part.label} {stack.shape}", claimed, total)
            broken = stack.cut(self._files)
            said += [broken] if broken else []
            said += [f"{part.label}: {each}" for each in oddities(part.series.page)]
            if stack.missing:
                said.append(f"{part.label}: planes missing: {stack.missing}; they read as {stack.codec.nodata}")
            made += [(image, view, part) for image, view in _images(part, broken, said)]
        # Masks come last; the others by rank, and in the order of the file.
        made.sort(key=lambda each: (not each[2].series.mask, rank(each[0])), reverse=True)
        self._views = [view for _, view, _ in made]
        names = unique(["mask" if part.series.mask else "image" for _, _, part in made])
        images = [replace(image, name=name) for (image, _, _), name in zip(made, names, strict=True)]
        first = made[0][2].series.page
        return Source(
            sensor="TIFF RGB" if is_rgb(first) else "TIFF",
            images=tuple(images),
            reader=f"tifffile {tifffile.__version__}, imagecodecs {imagecodecs.__version__}",
            reason=reason(images),
            warnings=tuple(said),
            metadata=metadata(made[0][2].tiff, first),
        )


def _images(part: Part, broken: str | None, said: list[str]) -> list[tuple[Image, View]]:
    series, stack = part.series, part.series.stack
    known = calibration(part.tiff, series.page, series.kind, series.number)
    place = None if series.mask else place_of(series.page)
    said += [f"{part.label}: {each}" for each in (place.warnings if place else ())]
    roles = meaning(stack)
    if roles.split:
        names = " and ".join(name for _, name in roles.split)
        said.append(f"{part.label} has more axes than an image may have: one image for each {names}")
    shown, rgb = _channels(part, roles, known)
    icc = profile(series.page) if rgb else b""
    if text := colours.said_of(icc):
        said.append(f"{part.label}: {text}")
    values, fill = _fill(part, place, said)
    made = []
    for word, fixed in roles.views(stack):
        image = Image(
            name="image",
            source_name=", ".join(filter(None, (part.label, word))),
            axes=tuple(_axis(stack.shape[axis], name, kind, known, place) for axis, name, kind in roles.axes),
            dtype=stack.codec.dtype,
            attributes=values,
            fill=fill,
            reduction=Reduction.MODE if series.mask or indices(series.page) else None,
            coordinates=place.coordinates if place else (),
            channels=shown,
            rgb=rgb,
            icc=icc,
            transposed=roles.transposed(),
            source_chunk=_chunk(stack, roles),
        )
        made.append((image, View(stack, roles.order, fixed, broken)))
    return made


def _axis(length: int, name: str, kind: AxisKind, known: Calibration, place: Place | None) -> Axis:
    plain = Axis(name=name, kind=kind, length=length)
    if place and name in place.axes:
        spacing, origin, unit = place.axes[name]
        return replace(plain, spacing=spacing, origin=origin, unit=unit)
    if name in known.spacing and not place:
        spacing, unit = known.spacing[name]
        return replace(plain, spacing=spacing, unit=unit)
    return plain


def _channels(part: Part, roles: Meaning, known: Calibration) -> tuple[tuple[Channel, ...], bool]:
    stack = part.series.stack
    for axis, _, kind in roles.axes:
        if kind is AxisKind.CHANNEL:
            samples = stack.letters[axis] == "S"
            return channels(part.series.page, stack.shape[axis], known, samples=samples)
    return (), False


def _fill(part: Part, place: Place | None, said: list[str]) -> tuple[dict[str, Any], tuple[float | int, ...]]:
    attributes: dict[str, Any] = {"grid_mapping": "spatial_ref"} if place and place.coordinates else {}
    value, warning = nodata(part.series.page, part.series.stack.codec.dtype)
    if warning:
        said.append(f"{part.label}: {warning}")
    if value is None:
        return attributes, ()
    return {**attributes, "_FillValue": value}, (value.item(),)


def _chunk(stack: Stack, roles: Meaning) -> tuple[int, ...]:
    """A tile or strip, or where the pixels lie in one piece, a row of them."""
    codec = stack.codec
    depth, length, width = codec.segment
    page = stack.page(0)
    if page is not None and page.start is not None:
        depth, length, width = 1, 1, codec.shaped[3]
    block = (*(1,) * len(stack.lead), 1, depth, length, width, codec.shaped[4])
    return tuple(int(np.clip(block[axis], 1, stack.shape[axis])) for axis in roles.order)
