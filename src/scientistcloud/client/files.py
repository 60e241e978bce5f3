"""The files that one upload takes along, and their names in the data set."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scientistcloud.errors import InvalidParameters
from scientistcloud.layout import source_path

_HEADER_BYTES = 4 << 20
_TEMPLATE = re.compile(r"^\(filename_template\)\s*\n\s*(\S+)", re.MULTILINE)
_NUMBER = re.compile(r"%0?\d{0,2}x")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to be sent."""

    path: Path
    #: Its name in the data set, "/" between parts.
    name: str
    size_bytes: int
    modified_ns: int
    #: Where it begins in the file at `path`: 0, but for a part of it.
    start_bytes: int = 0


def collect(paths: Sequence[Path]) -> list[LocalFile]:
    """The files at `paths`, those of folders below it included, by name.

    A single folder gives names relative to it; beside others its own name stands before them. An ``.idx`` of
    OpenVisus takes its blocks along, as far as they lie below its folder. Raises `InvalidParameters` for what is no
    file or folder, for an empty folder, and for equal names.
    """
    found: dict[str, LocalFile] = {}
    for path in paths:
        if path.is_dir():
            prefix = "" if len(paths) == 1 else f"{path.resolve().name}/"
            pairs = [(each, prefix + each.relative_to(path).as_posix()) for each in _files_below(path)]
            if not pairs:
                raise InvalidParameters(f"the folder {path} holds no file; name one that does")
        elif path.is_file():
            pairs = [(path, path.name), *_blocks_of(path)]
        else:
            raise InvalidParameters(f"there is no file or folder {path}; check the name")
        for each, name in pairs:
            if name in found:
                raise InvalidParameters(f"{each} and {found[name].path} have the same name; send them in a folder")
            found[name] = _local_file(each, name)
    return [found[name] for name in sorted(found)]


def _blocks_of(path: Path) -> list[tuple[Path, str]]:
    """The files with the blocks of the IDX header `path`, and their names beside it; none for anything else."""
    if path.suffix.lower() != ".idx":
        return []
    with path.open("rb") as file:
        text = file.read(_HEADER_BYTES).decode("utf-8", "replace")
    named = _TEMPLATE.search(text)
    parts = named.group(1).removeprefix("./").split("/") if named else []
    if not parts or ".." in parts or not all(parts) or not any(_NUMBER.search(part) for part in parts):
        return []  # what leads elsewhere stays where it is; the conversion says what is wrong with it
    first = next(index for index, part in enumerate(parts) if _NUMBER.search(part))
    spelled = ["[0-9A-Fa-f]+".join(map(re.escape, _NUMBER.split(part))) for part in parts]
    steps = "(?:[^/]+/)?"  # of time, a folder each
    pattern = re.compile("/".join([*spelled[:first], steps + "/".join(spelled[first:])]))
    below = path.parent.joinpath(*parts[:first])
    files = _files_below(below) if below.is_dir() else []
    pairs = [(each, each.relative_to(path.parent).as_posix()) for each in files]
    return [(each, name) for each, name in pairs if pattern.fullmatch(name)]


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
