"""Whether an HDF5 file is a netCDF-4 file that keeps to itself, before the netCDF library opens it."""

from __future__ import annotations

from pathlib import Path

from scientistcloud.converters.contract import OtherFormat
from scientistcloud.converters.hdf5_links import ALONE, survey
from scientistcloud.errors import UnsafeSource


def check(path: Path) -> None:
    """Pass a netCDF-4 file that keeps to itself.

    Raises `OtherFormat` for HDF5 that is no netCDF, `UnsafeSource` for a file that names another one,
    `UnreadableSource` for one that does not open.
    """
    found = survey(path)
    if not found.netcdf:
        raise OtherFormat(f"{path.name} is an HDF5 file that is no netCDF; choose HDF5, or leave the choice")
    for named in found.outside:
        raise UnsafeSource(f"{named.said(path.name)}; send {ALONE}")
