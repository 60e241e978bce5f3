"""`TiffReader`: stacks as images."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import tifffile

from scientistcloud.converters.formats.tiff import directory
from scientistcloud.converters.formats.tiff.axes import meaning
from scientistcloud.converters.formats.tiff.calibration import calibration, channels
from scientistcloud.converters.formats.tiff.planes import Files, PageReader
from scientistcloud.converters.formats.tiff.series import Opened, Series, open_tiff
from scientistcloud.converters.formats.tiff.stack import View
from scientistcloud.omezarr.image import Array, Axis, AxisKind, Image, Reduction, Region, Source


class TiffReader:
    """The pictures and stacks of one or several TIFF files."""

    def __init__(self, files: Sequence[Path], root: Path) -> None:
        self._files = Files(files)
        self._pages = PageReader(self._files)
        self._views: list[View] = []
        self._opened: list[Opened] = []
        try:
            self._source = self._open(files)
        except BaseException:
            self.close()
            raise

    def describe(self) -> Source:
        return self._source

    def read(self, image: int, region: Region) -> Array:
        return self._views[image].read(self._pages, region)

    def close(self) -> None:
        self._pages.close()
        self._files.close()
        for opened in self._opened:
            opened.tiff.close()

    def _open(self, files: Sequence[Path]) -> Source:
        images: list[tuple[Image, View]] = []
        said: list[str] = []
        numbers = {path: index for index, path in enumerate(files)}
        for path in files:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                directory.follow(fd, path.name)
            finally:
                os.close(fd)
            opened = open_tiff(path, file_number=numbers)
            self._opened.append(opened)
            said += opened.said
            for number, series in enumerate(opened.series):
                if series.reduced and number:
                    continue
                images += self._images(opened, series, number)
        images.sort(key=lambda pair: _rank(pair[0]), reverse=True)
        self._views = [view for _, view in images]
        rgb = images[0][0].rgb
        return Source(
            sensor="TIFF RGB" if rgb else "TIFF",
            images=tuple(image for image, _ in images),
            reader=f"tifffile {tifffile.__version__}",
            warnings=tuple(said),
        )

    def _images(self, opened: Opened, series: Series, number: int) -> list[tuple[Image, View]]:
        stack = series.stack
        said = calibration(opened.tiff, series.page, series.kind, number)
        roles = meaning(stack)
        made = []
        for word, fixed in roles.views(stack):
            shape = stack.shape
            axes = []
            for axis, name, kind in roles.axes:
                spacing, unit = said.spacing.get(name, (None, None))
                axes.append(Axis(name=name, kind=kind, length=shape[axis], spacing=spacing, unit=unit))
            shown, rgb = (), False
            for axis, _, kind in roles.axes:
                if kind is AxisKind.CHANNEL:
                    shown, rgb = channels(series.page, shape[axis], said, samples=stack.letters[axis] == "S")
            image = Image(
                name="image",
                source_name=", ".join(filter(None, (series.name or f"series {number}", word))),
                axes=tuple(axes),
                dtype=stack.codec.dtype,
                channels=shown,
                rgb=rgb,
                transposed=roles.transposed(),
                reduction=Reduction.MODE if series.mask else None,
            )
            made.append((image, View(stack, roles.order, fixed)))
        return made


def _rank(image: Image) -> tuple[int, int]:
    return sum(axis.kind is AxisKind.SPACE for axis in image.axes), math.prod(image.shape)
