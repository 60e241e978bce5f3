"""HDF5, and NeXus as light, neutron and muon sources write it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scientistcloud.converters.contract import ReadOptions
from scientistcloud.omezarr.image import Reader

_MAGIC = b"\x89HDF\r\n\x1a\n"
_PACKET = b"\x89HMP\r\n\x1a\n"  # a user block of any length that holds XMP


class Hdf5Converter:
    """Reads HDF5 with h5py; chunks packed with gzip without it."""

    sensors: tuple[str, ...] = ("HDF5", "4D_NEXUS")
    summary = "HDF5 and NeXus, also in several files; frames of a detector over a scan"

    def sniff(self, head: bytes, name: str) -> bool:  # noqa: ARG002  # HDF5 has a magic number
        return head.startswith(_PACKET) or any(head.startswith(_MAGIC, start) for start in (0, 512, 1024, 2048))

    def open(self, files: Sequence[Path], *, root: Path, options: ReadOptions) -> Reader:
        # Not above: who converts another format need not load these libraries.
        from scientistcloud.converters.formats.hdf5.reader import Hdf5Reader

        return Hdf5Reader(files, root=root, options=options)
