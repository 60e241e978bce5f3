"""The HDF5 files of a data set: each looked through before it is opened, links between them resolved by us."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import h5py

from scientistcloud.converters.hdf5_chunks import Segment
from scientistcloud.converters.hdf5_links import ALONE, DAMAGES, Outside, damaged, resolved, survey
from scientistcloud.errors import UnreadableSource, UnsupportedSource


@dataclass(slots=True, eq=False)
class OpenFile:
    """One opened file. Its values are read by position from `fd`, by the library where that cannot be."""

    path: Path
    fd: int
    handle: h5py.File
    state: tuple[int, int]
    #: External links by the address of their group and their name: where below the root each leads.
    links: dict[tuple[int, str], Path] = field(default_factory=dict)
    #: The files that its virtual data sets are made of.
    seen: list[Path] = field(default_factory=list)
    #: Virtual data sets by their address: files that they are made of and that are missing.
    lacking: dict[int, list[str]] = field(default_factory=dict)
    #: Data sets whose values lie in other files, by their address: where, in order.
    stored: dict[int, list[Segment]] = field(default_factory=dict)
    #: Something in it is a view.
    views: bool = False
    #: The library may follow its links: it has a view, or is seen by one.
    followed: bool = False
    #: All files that it names.
    parts: set[Path] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def size(self) -> int:
        return self.state[0]

    @property
    def storage(self) -> list[Path]:
        """The files that hold values of its data sets."""
        return [segment.path for segments in self.stored.values() for segment in segments]

    def must_be_unchanged(self) -> None:
        if _state(self.fd) != self.state:
            raise UnreadableSource(f"{self.name} changed while it was read; convert it again")
        for segments in self.stored.values():
            for segment in segments:
                segment.must_be_unchanged()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self.handle.close()
            for segments in self.stored.values():
                for segment in segments:
                    os.close(segment.fd)


class Files:
    """Opens files below a root, each once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._opened: dict[Path, OpenFile] = {}

    def open(self, path: Path, *, followed: bool = False) -> OpenFile:
        """The file `path`, which lies below the root; `followed` where the library may follow its links by itself.

        Raises `UnreadableSource` for one that does not open, `UnsafeSource` where it, or a file that it is made of,
        names a file outside the root.
        """
        opened = self._opened.get(path.resolve()) or self._add(path)
        if (followed or opened.views) and not opened.followed:
            opened.followed = True
            for target in {*opened.seen, *opened.links.values()}:
                if target.is_file():
                    self.open(target, followed=True)
                elif (stray := Path(os.path.relpath(target, path.parent))).is_file():
                    # What is missing beside the file, the library takes from the working folder.
                    raise UnreadableSource(f"{stray} is missing, which {path.name} is made of; upload it as well")
        for each in self._opened.values():
            if (each.views and opened.stored) or (opened.views and each.stored):
                raise UnsupportedSource(
                    f"{opened.name}: where values lie in a file beside it, views are not read, for the library "
                    f"would look for that file itself; send {ALONE}"
                )
        return opened

    def _add(self, path: Path) -> OpenFile:
        found = survey(path)
        opened = self._opened[path.resolve()] = _open(path)
        opened.views = found.views
        for named in found.outside:
            target = resolved(named, by=path, root=self._root)
            opened.parts.add(target.resolve())
            match named.kind:
                case "storage":
                    segments = opened.stored.setdefault(named.address, [])
                    if target.is_file():
                        segments.append(Segment.of(target, offset=named.offset, size=named.size))
                    else:
                        opened.lacking.setdefault(named.address, []).append(named.filename)
                case "link":
                    opened.links[named.address, named.where.rsplit("/", 1)[-1]] = target
                case _:
                    seen = list(self._seen(named, by=path))
                    opened.seen += seen
                    opened.parts.update(each.resolve() for each in seen)
                    if not seen:
                        opened.lacking.setdefault(named.address, []).append(named.filename)
        return opened

    def _seen(self, named: Outside, *, by: Path) -> Iterator[Path]:
        """The files that a view is made of and that are there: one; with `%b` in its name one after the other."""
        for block in count() if "%b" in named.filename else [0]:
            one = replace(named, filename=named.filename.replace("%b", str(block)))
            target = resolved(one, by=by, root=self._root)
            if not target.is_file():
                return
            yield target

    def all(self) -> list[OpenFile]:
        return list(self._opened.values())

    def close(self) -> None:
        while self._opened:
            self._opened.popitem()[1].close()


def _open(path: Path) -> OpenFile:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return OpenFile(path, fd, h5py.File(path, "r", locking=False), _state(fd))
    except DAMAGES as broken:
        os.close(fd)
        raise damaged(path.name, broken) from broken


def _state(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_size, status.st_mtime_ns
