"""An HDF5 file looked through before anything opens its data: nothing may lead to another file.

External storage, external links and virtual data sets make the HDF5 library open whatever file they name, on
behalf of whoever sent them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import h5py

from scientistcloud.errors import UnreadableSource, UnsafeSource, UnsupportedSource

_DEEPEST = 64
_MARKS = ("_NCProperties", "_Netcdf4Dimid", "_Netcdf4Coordinates", "_nc3_strict")


def check(path: Path) -> None:
    """Pass a netCDF-4 file that keeps to itself.

    Raises `UnsafeSource` for one that names another file, `UnsupportedSource` for HDF5 that is no netCDF,
    `UnreadableSource` for one that does not open.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            netcdf = _walk(path.name, file)
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, MemoryError) as broken:
        raise UnreadableSource(f"{path.name} is damaged or cut off: {_plain(broken)}; upload it again") from broken
    if not netcdf:
        raise UnsupportedSource(
            f"{path.name} is an HDF5 file that is no netCDF; HDF5 is not handled yet in this version, "
            "send netCDF or TIFF"
        )


def _walk(name: str, file: h5py.File) -> bool:
    """Look at every link and data set; whether it is all in all a netCDF-4 file."""
    looked = _Looked(marked=_is_marked(file))
    seen = {h5py.h5o.get_info(file.id).addr}
    waiting: list[tuple[h5py.Group, int]] = [(file, 0)]
    while waiting:
        group, depth = waiting.pop()
        if depth > _DEEPEST:
            raise UnsupportedSource(f"{name} has groups {depth} deep in each other; send a file with fewer")
        for key in group:
            where = f"{group.name.rstrip('/')}/{key}"
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise UnsafeSource(
                    f"{name} names another file: the link {where} leads to {link.filename!r}; send {_ALONE}"
                )
            if isinstance(link, h5py.SoftLink):
                continue  # within this file; what it leads to is looked at on its own
            if not isinstance(link, h5py.HardLink):
                raise UnsafeSource(f"{name} has a link of an unknown kind: {where}; send {_ALONE}")
            found = group[key]
            address = h5py.h5o.get_info(found.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(found, h5py.Group):
                waiting.append((found, depth + 1))
            elif isinstance(found, h5py.Dataset):
                _check_storage(name, where, found)
                looked.marked = looked.marked or _is_marked(found)
                looked.scaled = looked.scaled and (found.ndim == 0 or _is_scaled(found))
                looked.datasets += 1
    ordered = bool(h5py.h5g.open(file.id, b"/").get_create_plist().get_link_creation_order())
    return looked.marked or (ordered and looked.scaled and looked.datasets > 0)


@dataclass(slots=True)
class _Looked:
    #: Something carries an attribute that only the netCDF library writes, or keeps to a convention for netCDF.
    marked: bool
    #: Each data set has dimensions, as every netCDF variable has; old files carry no other sign.
    scaled: bool = True
    datasets: int = 0


def _is_marked(found: h5py.Group | h5py.Dataset) -> bool:
    if any(mark in found.attrs for mark in _MARKS):
        return True
    said = found.attrs.get("Conventions") if isinstance(found, h5py.File) else None
    text = said.decode("latin-1") if isinstance(said, bytes) else str(said)
    return bool(re.match(r"\W*(CF|COARDS|ACDD)\b", text))


def _is_scaled(found: h5py.Dataset) -> bool:
    return "DIMENSION_LIST" in found.attrs or "CLASS" in found.attrs


_ALONE = "a copy that holds its data itself"


def _check_storage(name: str, where: str, found: h5py.Dataset) -> None:
    plan = found.id.get_create_plist()
    if plan.get_external_count():
        outside = plan.get_external(0)[0].decode("utf-8", "replace")
        raise UnsafeSource(f"{name} names another file: {where} is stored in {outside!r}; send {_ALONE}")
    if plan.get_layout() == h5py.h5d.VIRTUAL:
        others = {plan.get_virtual_filename(index) for index in range(plan.get_virtual_count())} - {"."}
        if others:
            raise UnsafeSource(f"{name} names another file: {where} is a view of {min(others)!r}; send {_ALONE}")


def _plain(broken: BaseException) -> str:
    text = str(broken)
    return text[text.find("(") + 1 : text.rfind(")")] if "(" in text and ")" in text else text
