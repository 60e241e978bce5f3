"""Places that the operator allows data to be registered in, and what lies there now.

Nothing here writes. A link may lead anywhere within its root, and nowhere else.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scientistcloud.errors import InvalidSettings, UnreadableSource, UnsafeSource
from scientistcloud.layout import source_path

#: What programs write beside a file that is not there yet.
_UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", ".swp", ".lock", "~")


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells whether a file is still the same."""

    size_bytes: int
    modified_ns: int


def root_of(place: Path, roots: Sequence[Path]) -> Path:
    """The allowed root under which `place` really lies. Raises `UnsafeSource`."""
    real = Path(os.path.realpath(place))
    for root in roots:
        real_root = Path(os.path.realpath(root))
        if real == real_root or real.is_relative_to(real_root):
            return real_root
    allowed = ", ".join(map(str, roots)) or "none"
    raise UnsafeSource(f"{place} lies under no folder of REGISTER_ROOTS ({allowed}); ask the operator")


def require_roots(roots: Sequence[Path]) -> None:
    """Raise `InvalidSettings` where none is allowed."""
    if not roots:
        raise InvalidSettings(
            "no folder is allowed; set SCIENTISTCLOUD_REGISTER_ROOTS to those that may be registered"
        )


def resolved(place: Path, path: str, roots: Sequence[Path]) -> tuple[Path, tuple[str, ...]]:
    """The root, and the parts below it, of the file at `path` of the data set at `place`, links followed.

    Raises `UnsafeSource` where it lies outside of the root.
    """
    root = root_of(place, roots)
    file = place / source_path(path) if place.is_dir() else place.parent / source_path(path)
    real = Path(os.path.realpath(file))
    if not place.is_dir() and real != Path(os.path.realpath(place)):
        raise UnsafeSource(f"{path!r} is no file of the data set at {place}")
    if not real.is_relative_to(root):
        raise UnsafeSource(f"{path!r} leads out of {root}")
    return root, real.relative_to(root).parts


def state_of(place: Path, roots: Sequence[Path]) -> dict[str, FileState]:
    """The files of the data set at `place`, by their path in it; hidden and unfinished ones left out.

    Raises `UnsafeSource` for a link that leads out of its root, naming it; `UnreadableSource` where the place
    cannot be read.
    """
    root = root_of(place, roots)
    found: dict[str, FileState] = {}
    try:
        if place.is_dir():
            for path, facts in _below(place, root):
                if stat.S_ISREG(facts.st_mode):
                    found[path] = FileState(facts.st_size, facts.st_mtime_ns)
        elif stat.S_ISREG((facts := place.stat()).st_mode):
            found[place.name] = FileState(facts.st_size, facts.st_mtime_ns)
    except FileNotFoundError:
        return {}
    except OSError as failed:
        raise UnreadableSource(f"{failed.filename or place} cannot be read: {failed.strerror}") from failed
    return found


def candidates(root: Path, *, as_one: bool) -> list[Path]:
    """What may be data sets: each file and folder right below `root`, or `root` itself."""
    if as_one or not root.is_dir():
        return [root]
    return sorted(root / name for name in os.listdir(root) if not is_passed_over(name))  # noqa: PTH208  names alone


def is_being_written(place: Path, paths: Iterator[str] | Sequence[str]) -> bool:
    """Whether a process of this machine has one of the files open for writing, as far as the system tells.

    The caller ignores SIGIO, which comes if somebody opens one for writing at that very moment.
    """
    for path in paths:
        file = place / path if place.is_dir() else place
        with suppress(OSError):
            handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                # A lease for reading is not given while somebody may write; other errors tell nothing.
                fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
                fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            except OSError as refused:
                if refused.errno == errno.EAGAIN:
                    return True
            finally:
                os.close(handle)
    return False


def is_passed_over(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or one that is not finished."""
    return name.startswith(".") or name.lower().endswith(_UNFINISHED)


def _below(place: Path, root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Path and facts of what lies below `place`; a folder that a link leads to is gone into once."""
    waiting, seen = [""], {os.path.realpath(place)}
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(place / folder))
        except FileNotFoundError:
            continue  # gone meanwhile
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if is_passed_over(entry.name):
                continue
            if entry.is_symlink():
                real = os.path.realpath(entry.path)
                if not Path(real).is_relative_to(root):
                    raise UnsafeSource(
                        f"{place / path} is a link that leads out of {root}; remove it, or copy the file"
                    )
            try:
                facts = entry.stat()
            except FileNotFoundError:
                continue  # a link to nothing, or gone meanwhile
            if not stat.S_ISDIR(facts.st_mode):
                yield path, facts
            elif (real := os.path.realpath(entry.path)) not in seen:
                seen.add(real)
                waiting.append(path)
