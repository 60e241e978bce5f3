"""netCDF: classic, 64-bit offset, 64-bit data, and netCDF-4 with groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scientistcloud.converters.contract import ReadOptions
from scientistcloud.omezarr.image import Reader

_CLASSIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
_HDF5 = b"\x89HDF\r\n\x1a\n"


class NetcdfConverter:
    """Reads netCDF with netCDF4; the values of classic files straight from the file."""

    sensors: tuple[str, ...] = ("NETCDF",)
    summary = "netCDF-3 and netCDF-4, with groups and CF coordinates"

    def sniff(self, head: bytes, name: str) -> bool:  # noqa: ARG002  # netCDF has magic numbers
        # Whether an HDF5 file is netCDF stands anywhere in it; `open` looks.
        return head.startswith(_CLASSIC) or any(head.startswith(_HDF5, start) for start in (0, 512, 1024, 2048))

    def open(self, files: Sequence[Path], *, root: Path, options: ReadOptions) -> Reader:  # noqa: ARG002
        # Not above: who converts another format need not load these libraries.
        from scientistcloud.converters.formats.netcdf.reader import NetcdfReader

        return NetcdfReader(files, options.scratch)
