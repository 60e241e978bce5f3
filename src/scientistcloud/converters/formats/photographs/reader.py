"""`PhotographReader`: one photograph, or a series of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from scientistcloud.converters import colours
from scientistcloud.converters.choice import unique
from scientistcloud.converters.contract import ReadOptions
from scientistcloud.converters.formats.photographs import jpeg, mapir, png, tiff
from scientistcloud.converters.formats.photographs.exif import details
from scientistcloud.converters.formats.photographs.gallery import Gallery
from scientistcloud.converters.formats.photographs.header import Header
from scientistcloud.converters.formats.photographs.orientation import SAID, is_turned, upright
from scientistcloud.errors import UnsupportedSource
from scientistcloud.omezarr.image import Array, Axis, AxisKind, Channel, Image, Region, Source

_READERS = {"JPEG": jpeg.READER, "PNG": png.READER, "TIFF": tiff.READER}
_COLOURS = ("FF0000", "00FF00", "0000FF")
_ALPHA = Channel(label="alpha", color="FFFFFF")
_UNSEEN = "000000"


@dataclass(frozen=True, slots=True)
class _View:
    """An image, as the samples of a photograph."""

    photograph: int
    #: The samples that are its channels; one number: it has no channel axis.
    samples: tuple[int, ...] | int
    #: The samples that an index is made of.
    index: tuple[int, int] | None = None


class PhotographReader:
    """Photographs, upright, as (c, y, x) or grey as (y, x); of MAPIR's cameras with an index."""

    def __init__(self, files: Sequence[Path], *, root: Path, options: ReadOptions) -> None:
        self._gallery = Gallery(files, scratch=options.scratch)
        self._details = [details(header, path) for header, path in zip(self._gallery.headers, files, strict=True)]
        self._views: list[_View] = []
        self._source = self._describe(root, options)

    def describe(self) -> Source:
        return self._source

    def read(self, image: int, region: Region) -> Array:
        view = self._views[image]
        pixels = upright(self._gallery.pixels(view.photograph), self._details[view.photograph].orientation)
        if view.index is not None:
            part = pixels[region]
            return mapir.index(part[..., view.index[0]], part[..., view.index[1]])
        if isinstance(view.samples, int):
            part = pixels[region]
            return np.ascontiguousarray(part[..., view.samples] if part.ndim == 3 else part)
        part = pixels[region[1:]][..., list(view.samples[region[0]])]
        return np.ascontiguousarray(part.transpose(2, 0, 1))

    def close(self) -> None:
        self._gallery.close()

    # -- what there is -------------------------------------------------------------------------

    def _describe(self, root: Path, options: ReadOptions) -> Source:
        sensor, chosen = self._sensor(options)
        paths = [self._gallery.path(number).relative_to(root).with_suffix("") for number in chosen]
        names = unique(["image"] if len(chosen) == 1 else [path.as_posix() for path in paths])
        shown, derived = [], []
        for number, name in zip(chosen, names, strict=True):
            made = list(self._images(number, name, sensor, options, series=number if len(chosen) > 1 else None))
            shown.append(made[0])
            derived += made[1:]
        pairs = [*shown, *derived]  # every photograph before what is made of them: image i is file i
        self._views = [view for _, view in pairs]
        images = [image for image, _ in pairs]
        taken = unique([image.name for image in images])
        kinds = sorted({self._gallery.headers[number].kind for number in chosen})
        return Source(
            sensor=sensor,
            images=tuple(replace(image, name=name) for image, name in zip(images, taken, strict=True)),
            reader=", ".join([*(_READERS[kind] for kind in kinds), f"Pillow {PIL.__version__}"]),
            reason=_reason(images, len(chosen)),
            warnings=tuple(self._said(chosen, sensor, options)),
            metadata=self._metadata(chosen),
        )

    def _sensor(self, options: ReadOptions) -> tuple[str, list[int]]:
        """The sensor, and which of the photographs are of it: those of the others are no part of the series."""
        everything = list(range(len(self._details)))
        ours = [number for number in everything if mapir.is_mapir(self._details[number].make)]
        named = options.sensor == "MAPIR"
        foreign = [each for each in everything if each not in ours and (self._details[each].make or not named)]
        if named and foreign:
            number = foreign[0]
            camera = f"{self._details[number].make} {self._details[number].model}".strip()
            raise UnsupportedSource(
                f"{self._gallery.name(number)} was said to be MAPIR, but it was taken by {camera}: it is RGB; "
                "choose RGB, or leave the choice"
            )
        if named or (ours and len(ours) >= len(foreign)):
            return "MAPIR", everything if named else ours
        return "RGB", foreign

    def _images(
        self, number: int, name: str, sensor: str, options: ReadOptions, *, series: int | None
    ) -> Iterator[tuple[Image, _View]]:
        header, said = self._gallery.headers[number], self._details[number]
        turned = is_turned(said.orientation)
        height, width = (header.width, header.height) if turned else (header.height, header.width)
        y = Axis(name="y", kind=AxisKind.SPACE, length=height)
        x = Axis(name="x", kind=AxisKind.SPACE, length=width)
        file = self._gallery.name(number)
        of = mapir.filter_of(file, said.make, said.model, options.bands) if sensor == "MAPIR" else None
        if of is not None and len(of.bands) > header.samples:
            raise UnsupportedSource(
                f"{file} has {header.samples} sample a pixel, and its camera {len(of.bands)} bands"
            )
        samples = _samples(header, of)
        attributes: dict[str, Any] = {f"gps_{key}": value for key, value in said.place.items()}
        channels = _channels(header, of)
        plain = Image(
            name=name,
            source_name=file,
            axes=(y, x),
            dtype=header.dtype,
            attributes=attributes,
            rgb=header.samples in (1, 3, 4),
            icc=said.icc if of is None else b"",
            series=series,
        )
        if isinstance(samples, int):
            transposed = (1, 0) if turned else None
            yield replace(plain, transposed=transposed), _View(number, samples)
        else:
            c = Axis(name="c", kind=AxisKind.CHANNEL, length=len(samples))
            order = (2, 1, 0) if turned else (2, 0, 1)
            coloured = replace(plain, axes=(c, y, x), channels=channels, transposed=order)
            yield coloured, _View(number, samples)
        if of is not None and of.index is not None:
            short, long_name = mapir.name_of_index(of)
            attributes = {**attributes, "long_name": long_name, "calibration": mapir.UNCALIBRATED}
            yield (
                replace(
                    plain,
                    name=short if name == "image" else f"{name}_{short}",
                    source_name=f"{file}, {short}",
                    dtype=np.dtype(np.float32),
                    attributes=attributes,
                    rgb=False,
                    valid_range=(-1.0, 1.0),
                    transposed=(1, 0) if turned else None,
                ),
                _View(number, 0, of.index),
            )

    # -- what is said of it --------------------------------------------------------------------

    def _said(self, chosen: Sequence[int], sensor: str, options: ReadOptions) -> Iterator[str]:
        left = [self._gallery.name(number) for number in range(len(self._details)) if number not in chosen]
        if left:
            yield f"left out, because their camera makes them no {sensor}: {_listed(left)}"
        turned: dict[str, list[str]] = {}
        for number in chosen:
            orientation = self._details[number].orientation
            if orientation in SAID:
                turned.setdefault(f"{SAID[orientation]}, as EXIF asks", []).append(self._gallery.name(number))
            for note in self._gallery.headers[number].notes:
                turned.setdefault(note, []).append(self._gallery.name(number))
            if text := colours.said_of(self._details[number].icc):
                turned.setdefault(text, []).append(self._gallery.name(number))
            if self._gallery.headers[number].samples in (2, 4) and sensor == "MAPIR":
                turned.setdefault("its alpha is left out", []).append(self._gallery.name(number))
        yield from (f"{_listed(names)}: {text}" for text, names in turned.items())
        if sensor == "MAPIR":
            filters = Counter(
                next(key for key, each in mapir.FILTERS.items() if each is self._filter(number, options))
                for number in chosen
            )
            for key in filters:
                bands = ", ".join(band.label for band in mapir.FILTERS[key].bands)
                yield f"the filter {key} makes the samples {bands}"
                if len(mapir.FILTERS[key].bands) == 1:
                    yield f"of photographs with the filter {key}, the first sample alone is light that passed it"
                if mapir.FILTERS[key].index is not None:
                    yield f"without a calibration target, indices are {mapir.UNCALIBRATED}"

    def _filter(self, number: int, options: ReadOptions) -> mapir.Filter:
        said = self._details[number]
        return mapir.filter_of(self._gallery.name(number), said.make, said.model, options.bands)

    def _metadata(self, chosen: Sequence[int]) -> dict[str, Any]:
        if len(chosen) == 1:
            return dict(self._details[chosen[0]].metadata)
        return {self._gallery.name(number): dict(self._details[number].metadata) for number in chosen}


def _samples(header: Header, of: mapir.Filter | None) -> tuple[int, ...] | int:
    count = header.samples if of is None else len(of.bands)
    return 0 if count == 1 else tuple(range(count))


def _channels(header: Header, of: mapir.Filter | None) -> tuple[Channel, ...]:
    if of is not None:
        return tuple(Channel(label=b.label, color=colour) for b, colour in zip(of.bands, _COLOURS, strict=False))
    if header.samples == 2:
        return Channel(label="grey"), Channel(label="alpha", color=_UNSEEN)
    names = ("red", "green", "blue")
    usual = tuple(Channel(label=name, color=colour) for name, colour in zip(names, _COLOURS, strict=True))
    return (*usual, _ALPHA)[: header.samples]


def _reason(images: Sequence[Image], count: int) -> str:
    if count > 1:
        return f"{images[0].source_name} is the first of {count} photographs, in the order of their names"
    if len(images) > 1:
        return f"{images[0].source_name} is shown first, {images[1].name} is made of it"
    return f"{images[0].source_name} is the only image"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
