"""Photographs: PNG and JPEG, TIFF on request; those of MAPIR's cameras by their bands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scientistcloud.converters.contract import ReadOptions
from scientistcloud.converters.formats.photographs.header import JPEG_MAGIC, PNG_MAGIC, TIFF_MAGIC
from scientistcloud.omezarr.image import Reader


class PhotographConverter:
    """Reads photographs, and folders of them as series."""

    sensors: tuple[str, ...] = ("MAPIR", "RGB")
    summary = "photographs in PNG, JPEG, TIFF, and folders of them; MAPIR: those of Survey3 cameras, by their bands"

    def sniff(self, head: bytes, name: str) -> bool:  # noqa: ARG002  # both have magic numbers
        return head.startswith((JPEG_MAGIC, PNG_MAGIC))

    def reads_if_named(self, head: bytes, name: str) -> bool:  # noqa: ARG002
        """A TIFF is a photograph where somebody says so."""
        return head.startswith(TIFF_MAGIC)

    def open(self, files: Sequence[Path], *, root: Path, options: ReadOptions) -> Reader:
        # Not above: who converts another format need not load these libraries.
        from scientistcloud.converters.formats.photographs.reader import PhotographReader

        return PhotographReader(files, root=root, options=options)
