"""Which converter reads what: content decides before the name does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from scientistcloud import plugins
from scientistcloud.converters.contract import HEAD_BYTES, Converter, ReadOptions
from scientistcloud.converters.magic import seen
from scientistcloud.errors import NotFound, UnreadableSource, UnsafeSource, UnsupportedSource
from scientistcloud.omezarr.image import Reader

ANY = ("auto", "OTHER")
"""Sensors that leave the choice to the content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """A kind of source data."""

    name: str
    #: The converter's entry point.
    converter: str
    summary: str


def sensors() -> list[Sensor]:
    """The kinds of source data known here, those of plug-ins included, sorted by name."""
    return sorted(
        (
            Sensor(name=sensor, converter=name, summary=converter.summary)
            for name, converter in _converters().items()
            for sensor in converter.sensors
        ),
        key=lambda sensor: sensor.name,
    )


def open_source(path: Path, *, sensor: str = "auto", options: ReadOptions = ReadOptions()) -> Reader:
    """Open a file, or a folder of files as one data set.

    Parameters
    ----------
    path
        Hidden files of a folder are ignored; the others are taken in natural order (`s2` before `s10`).
    sensor
        One of `sensors()`, or ``auto`` (``OTHER`` means the same): the content decides.

    Raises `NotFound` where there is nothing at `path`, else `SourceError`: `UnreadableSource` for an empty or
    damaged file, `UnsupportedSource` for what nobody reads or what is not of the named `sensor`,
    `UnsafeSource` for a file that names another one outside the data set.
    """
    if not path.exists():
        raise NotFound(f"there is no file or folder {path}; check its name")
    folder = path.is_dir()
    root = path if folder else path.parent
    files = _files(path) if folder else [path]
    heads = {file: _head(file) for file in files}
    converters = _converters()
    claims = {
        name: [file for file in files if heads[file] and converter.sniff(heads[file], file.name)]
        for name, converter in converters.items()
    }
    chosen = max(claims, key=lambda name: len(claims[name]), default=None)
    if chosen is None or not claims[chosen]:
        first = next((file for file in files if heads[file]), files[0])
        if not heads[first]:
            raise UnreadableSource(f"{first.name} is empty (0 bytes); upload it again")
        raise UnsupportedSource(f"nothing here reads {first.name}: {seen(heads[first], first.name)}")
    return converters[chosen].open(claims[chosen], root=root, options=options)


def _converters() -> dict[str, Converter]:
    return {name: cast(type[Converter], found)() for name, found in plugins.load_all(plugins.CONVERTERS).items()}


def _files(folder: Path) -> list[Path]:
    found = [
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not found:
        raise UnreadableSource(f"the folder {folder.name} holds no files; upload them again")
    for path in found:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UnsafeSource(f"{path.name} leads to a file outside the data set; upload the file itself")
    return sorted(found, key=lambda path: natural(str(path.relative_to(folder))))


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key that takes numbers as numbers: `s2` before `s10`."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part.lower()) for part in re.split(r"(\d+)", name)]


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)
