"""Recordings of our camera, as ScientistCloud reads them: a header of 32 bytes, then frames of uint16."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scientistcloud.converters.contract import ReadOptions
from scientistcloud.errors import UnreadableSource, UnsupportedSource
from scientistcloud.omezarr.image import Array, Axis, AxisKind, Image, Reader, Region, Source

MAGIC = b"MYLABCAM"
HEADER = struct.Struct("<8s3If8x")  # magic; frames, rows, columns; micrometres from pixel to pixel


class CameraConverter:
    sensors: tuple[str, ...] = ("MYLAB CAMERA",)
    summary = "recordings of our camera"

    def sniff(self, head: bytes, name: str) -> bool:
        return head.startswith(MAGIC)

    def open(self, files: Sequence[Path], *, root: Path, options: ReadOptions) -> Reader:
        if len(files) > 1:
            raise UnsupportedSource(f"{files[1].name} is a second recording; send each as a data set of its own")
        return CameraReader(files[0])


class CameraReader:
    def __init__(self, path: Path) -> None:
        self._path, self._state = path, path.stat()
        head = np.fromfile(path, np.uint8, HEADER.size).tobytes().ljust(HEADER.size, b"\0")
        _, *shape, pitch = HEADER.unpack(head)
        if min(shape) < 1 or self._state.st_size != HEADER.size + 2 * math.prod(shape) or not 0 < pitch < math.inf:
            raise UnreadableSource(f"{path.name} is cut off or damaged; copy it from the camera again")
        self._frames = np.memmap(path, "<u2", "r", HEADER.size, tuple(shape))
        self._pitch = pitch

    def describe(self) -> Source:
        time, rows, columns = self._frames.shape
        y, x = (
            Axis(name=name, kind=AxisKind.SPACE, length=length, spacing=self._pitch, unit="micrometer")
            for name, length in (("y", rows), ("x", columns))
        )
        axes = (Axis(name="t", kind=AxisKind.TIME, length=time), y, x)
        image = Image(name="image", source_name="frames", axes=axes, dtype=self._frames.dtype)
        return Source(sensor="MYLAB CAMERA", images=(image,), reader="mylab-camera 1.0")

    def read(self, image: int, region: Region) -> Array:
        if (now := self._path.stat()).st_size != self._state.st_size or now.st_mtime_ns != self._state.st_mtime_ns:
            raise UnreadableSource(f"{self._path.name} changed while it was read; convert it again")
        return np.array(self._frames[region])

    def close(self) -> None:
        """The memory map goes with the reader."""
