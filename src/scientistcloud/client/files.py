"""The files that one upload takes along, and their names in the data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scientistcloud.errors import InvalidParameters
from scientistcloud.layout import source_path


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to be sent."""

    path: Path
    #: Its name in the data set, "/" between parts.
    name: str
    size_bytes: int
    modified_ns: int


def collect(paths: Sequence[Path]) -> list[LocalFile]:
    """The files at `paths`, those of folders below it included, by name.

    A single folder gives names relative to it; beside others its own name stands before them. Raises
    `InvalidParameters` for what is no file or folder, for an empty folder, and for equal names.
    """
    found: dict[str, LocalFile] = {}
    for path in paths:
        if path.is_dir():
            prefix = "" if len(paths) == 1 else f"{path.resolve().name}/"
            pairs = [(each, prefix + each.relative_to(path).as_posix()) for each in _files_below(path)]
            if not pairs:
                raise InvalidParameters(f"the folder {path} holds no file; name one that does")
        elif path.is_file():
            pairs = [(path, path.name)]
        else:
            raise InvalidParameters(f"there is no file or folder {path}; check the name")
        for each, name in pairs:
            if name in found:
                raise InvalidParameters(f"{each} and {found[name].path} have the same name; send them in a folder")
            found[name] = _local_file(each, name)
    return [found[name] for name in sorted(found)]


def _local_file(path: Path, name: str) -> LocalFile:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidParameters(f"the name of {path!r} is not valid Unicode; rename the file") from None
    source_path(name)
    facts = path.stat()
    return LocalFile(path, name, facts.st_size, facts.st_mtime_ns)


def _files_below(folder: Path) -> list[Path]:
    def unreadable(failed: OSError) -> None:
        raise InvalidParameters(f"{failed.filename} cannot be read: {failed.strerror}") from failed

    return [
        Path(parent, name)
        for parent, _, names in os.walk(folder, onerror=unreadable)
        for name in names
        if Path(parent, name).is_file()  # no sockets, no broken links
    ]
