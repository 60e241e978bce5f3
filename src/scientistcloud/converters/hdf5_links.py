"""An HDF5 file looked through before anything opens its data: what it names outside itself, whether it is netCDF.

External links, external storage and virtual data sets make the HDF5 library open whatever file they name, on
behalf of whoever sent them. Here nothing is followed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath

import h5py

from scientistcloud.errors import UnreadableSource, UnsafeSource, UnsupportedSource

ALONE = "a copy that holds its data itself"
DAMAGES = (OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, MemoryError)
"""What h5py raises over damaged files."""

_DEEPEST = 64
_ALL = 2**63  # HDF5 says so of external files that grow
_MOST_OBJECTS = 1 << 20
_MARKS = ("_NCProperties", "_Netcdf4Dimid", "_Netcdf4Coordinates", "_nc3_strict")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


@dataclass(frozen=True, slots=True)
class Outside:
    """Another file that is named."""

    #: `link`, `storage` or `view`.
    kind: str
    #: The link or data set that names it.
    where: str
    filename: str
    #: Address of the group that holds the link, or of the data set.
    address: int
    #: Of storage: where its bytes begin in that file, and how many they are; None: all that follow.
    offset: int = 0
    size: int | None = None

    def said(self, name: str) -> str:
        """What `name` does, for a message."""
        how = {"link": f"the link {self.where} leads to", "storage": f"{self.where} is stored in"}
        return f"{name} names another file: {how.get(self.kind, f'{self.where} is a view of')} {self.filename!r}"


@dataclass(slots=True)
class Survey:
    """What a look through a file found."""

    netcdf: bool = False
    #: Something in it is a view, of this file or of others; what it is a view of, the library reads.
    views: bool = False
    outside: list[Outside] = field(default_factory=list)


def survey(path: Path) -> Survey:
    """Look through the HDF5 file `path`.

    Raises `UnreadableSource` for one that does not open, `UnsafeSource` for a link of a kind that nobody knows.
    """
    status = path.stat()
    return _survey(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _survey(path: Path, size: int, changed: int) -> Survey:
    del size, changed  # they make a file that changed another one
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _walk(path.name, file)
    except DAMAGES as broken:
        raise damaged(path.name, broken) from broken


def damaged(name: str, broken: BaseException) -> UnreadableSource:
    """h5py's complaint about the file `name`, in a line."""
    text = " ".join(str(broken).split())
    inner = text[text.find("(") + 1 : text.rfind(")")] if "(" in text and ")" in text else text
    return UnreadableSource(f"{name} is damaged or cut off: {inner or type(broken).__name__}; upload it again")


def resolved(named: Outside, *, by: Path, root: Path) -> Path:
    """The file below `root` that the file `by` names; it need not be there.

    Raises `UnsafeSource` for one that is absolute, an address, or leads out of `root`.
    """
    text = named.filename
    posix, windows = PurePosixPath(text), PureWindowsPath(text)
    if not text or "\0" in text or posix.is_absolute() or windows.drive or windows.root or _ADDRESS.match(text):
        raise UnsafeSource(f"{named.said(by.name)}; send {ALONE}")
    target = by.parent / text
    if not target.resolve().is_relative_to(root.resolve()):
        raise UnsafeSource(f"{named.said(by.name)}; send {ALONE}")
    return target


def _walk(name: str, file: h5py.File) -> Survey:
    looked = _Looked(marked=_is_marked(file))
    found = Survey()
    seen = {h5py.h5o.get_info(file.id).addr}
    waiting: list[tuple[h5py.Group, int]] = [(file, 0)]
    while waiting:
        group, depth = waiting.pop()
        if depth > _DEEPEST or len(seen) > _MOST_OBJECTS:
            much = f"groups {depth} deep in each other" if depth > _DEEPEST else f"more than {len(seen)} objects"
            raise UnsupportedSource(f"{name} has {much}; send a file with fewer")
        home = h5py.h5o.get_info(group.id).addr
        for key in group:
            where = f"{group.name.rstrip('/')}/{key}"
            try:
                link = group.get(key, getlink=True)
            except TypeError as unknown:
                raise UnsafeSource(f"{name} has a link of an unknown kind: {where}; send {ALONE}") from unknown
            if isinstance(link, h5py.ExternalLink):
                found.outside.append(Outside("link", where, link.filename, home))
                continue
            if isinstance(link, h5py.SoftLink):
                continue  # within this file; what it leads to is looked at on its own
            below = group[key]
            address = h5py.h5o.get_info(below.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(below, h5py.Group):
                waiting.append((below, depth + 1))
            elif isinstance(below, h5py.Dataset):
                found.outside += _outside(where, below, address)
                found.views = found.views or below.is_virtual
                looked.marked = looked.marked or _is_marked(below)
                looked.scaled = looked.scaled and (below.ndim == 0 or _is_scaled(below))
                looked.datasets += 1
    ordered = bool(h5py.h5g.open(file.id, b"/").get_create_plist().get_link_creation_order())
    found.netcdf = looked.marked or (ordered and looked.scaled and looked.datasets > 0)
    return found


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


def _outside(where: str, found: h5py.Dataset, address: int) -> list[Outside]:
    plan = found.id.get_create_plist()
    named = []
    for index in range(plan.get_external_count()):
        filename, offset, size = plan.get_external(index)
        all_of_it = size == h5py.h5s.UNLIMITED or size >= _ALL
        named.append(
            Outside(
                "storage",
                where,
                filename.decode("utf-8", "replace"),
                address,
                offset=int(offset),
                size=None if all_of_it else int(size),
            )
        )
    if plan.get_layout() == h5py.h5d.VIRTUAL:
        others = {plan.get_virtual_filename(index) for index in range(plan.get_virtual_count())} - {"."}
        named += [Outside("view", where, other, address) for other in sorted(others)]
    return named
