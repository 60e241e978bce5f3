"""Images that lie in memory, for tests of what is written of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scientistcloud.omezarr.image import Array, Axis, AxisKind, Image, Region, Source

_KINDS = {"t": AxisKind.TIME, "c": AxisKind.CHANNEL, "e": AxisKind.CUSTOM}


def image_of(values: Array, axes: str | Sequence[Axis] = "", **fields: Any) -> Image:
    """An image of `values`; `axes` are letters (t, c, e custom, else space) or whole axes, `fields` the rest."""
    letters: Sequence[str | Axis] = axes or "tczyx"[-values.ndim :]
    made = tuple(
        Axis(name=each, kind=_KINDS.get(each, AxisKind.SPACE), length=n) if isinstance(each, str) else each
        for each, n in zip(letters, values.shape, strict=True)
    )
    named = {"name": "image", "source_name": "memory"} | fields
    return Image(axes=made, dtype=values.dtype, **named)


class ArrayReader:
    """A reader of arrays, with the images that describe them."""

    def __init__(self, *pairs: tuple[Image, Array], **fields: Any) -> None:
        self._images = tuple(image for image, _ in pairs)
        self._values = tuple(values for _, values in pairs)
        self._fields = {"sensor": "TIFF", "reader": "memory 1.0"} | fields
        #: What was asked for: (image, region).
        self.asked: list[tuple[int, Region]] = []

    def describe(self) -> Source:
        return Source(images=self._images, **self._fields)

    def read(self, image: int, region: Region) -> Array:
        self.asked.append((image, region))
        return np.array(self._values[image][region])

    def close(self) -> None:
        """Nothing is held."""
