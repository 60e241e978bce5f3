"""Which converter reads what: content decides before the name does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from scientistcloud import plugins
from scientistcloud.converters.contract import HEAD_BYTES, Converter, OtherFormat, ReadOptions, ReadsIfNamed
from scientistcloud.converters.magic import seen
from scientistcloud.converters.names import natural
from scientistcloud.converters.overruled import Overruled
from scientistcloud.errors import (
    BrokenPlugin,
    InvalidParameters,
    NotFound,
    UnreadableSource,
    UnsafeSource,
    UnsupportedSource,
)
from scientistcloud.omezarr.image import Reader

ANY = ("auto", "OTHER")
"""Sensors that leave the choice to the content."""

# What operating systems leave in folders.
_LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_NO_OPTIONS = ReadOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """A kind of source data."""

    name: str
    #: The converter's entry point.
    converter: str
    summary: str


def sensors() -> list[Sensor]:
    """The kinds of source data known here, those of plug-ins included, sorted by name."""
    found, _ = _converters()
    known = [
        Sensor(name=sensor, converter=name, summary=converter.summary)
        for name, converter in found.items()
        for sensor in converter.sensors
    ]
    other = Sensor(name="OTHER", converter="any of them", summary="anything: the content decides, then the name")
    return sorted([*known, other], key=lambda sensor: sensor.name)


def open_source(path: Path, *, sensor: str = "auto", options: ReadOptions = _NO_OPTIONS) -> Reader:
    """Open a file, or a folder of files as one data set.

    Parameters
    ----------
    path
        Hidden files of a folder are ignored; the others are taken in natural order (`s2` before `s10`), those
        below it too. Of files of several formats those of the most frequent one are read, and a warning names
        the others.
    sensor
        One of `sensors()`, or ``auto`` (``OTHER`` means the same): the content decides. A named one that the
        content contradicts is an `UnsupportedSource` that names both.

    Raises `NotFound` where there is nothing at `path`, `InvalidParameters` for a sensor or an option that does
    not exist, else `SourceError`: `UnreadableSource` for an empty or damaged file, `UnsupportedSource` for what
    nobody reads, `UnsafeSource` for a file that names another one outside the data set.
    """
    if not path.exists():
        raise NotFound(f"there is no file or folder {path}; check its name")
    converters, broken = _converters()
    known = {each for converter in converters.values() for each in converter.sensors}
    if sensor not in known and sensor not in ANY:
        raise InvalidParameters(
            f"there is no sensor {sensor!r} here; take one of auto, {', '.join(sorted({*known, 'OTHER'}))}"
        )

    root = path if path.is_dir() else path.parent
    heads = {file: _head(file) for file in _files(path)}
    named = None if sensor in ANY else sensor
    claims = _claims(converters, heads, named)
    if not claims:
        if broken:
            raise broken[0]
        raise _refusal(heads)
    reader, name = _open(converters, claims, root, replace(options, sensor=named))
    try:
        source = reader.describe()
        found = source.sensor
        shown = next(iter(heads)).name if len(heads) == 1 else path.name
        _check_sensor(sensor, found, shown, alike=converters[name].sensors)
        used = {*claims[name], *source.files}
        left = [file for file in heads if file not in used]
        warnings = [f"left out, because they are no {found}: {_listed(left)}"] if left else []
        return Overruled(reader, options, warnings=warnings)
    except BaseException:
        reader.close()
        raise


def _converters() -> tuple[dict[str, Converter], list[BrokenPlugin]]:
    """Converters by entry point, those of plug-ins before the built-in ones, and plug-ins that do not load."""
    found: dict[str, Converter] = {}
    broken: list[BrokenPlugin] = []
    for name in plugins.names(plugins.CONVERTERS):
        try:
            found[name] = cast(type[Converter], plugins.load(plugins.CONVERTERS, name))()
        except BrokenPlugin as failed:  # reading TIFF does not wait for a plug-in to be mended
            broken.append(failed)
    own = __name__.split(".", 1)[0] + "."
    return dict(sorted(found.items(), key=lambda each: type(each[1]).__module__.startswith(own))), broken


def _claims(
    converters: Mapping[str, Converter], heads: Mapping[Path, bytes], named: str | None
) -> dict[str, list[Path]]:
    """The files that each converter recognises: first who reads the `named` sensor, then who recognises most.

    Converters that recognise none are left out.
    """
    claims = {}
    for name, converter in converters.items():
        more = converter if named in converter.sensors and isinstance(converter, ReadsIfNamed) else None
        claims[name] = [
            file
            for file, head in heads.items()
            if head and (converter.sniff(head, file.name) or (more and more.reads_if_named(head, file.name)))
        ]
    order = sorted(claims, key=lambda name: (named not in converters[name].sensors, -len(claims[name])))
    return {name: claims[name] for name in order if claims[name]}


def _open(
    converters: Mapping[str, Converter], claims: Mapping[str, Sequence[Path]], root: Path, options: ReadOptions
) -> tuple[Reader, str]:
    """The first that can; a magic number may be shared (netCDF-4 is HDF5), so one may hand on to the next."""
    refused: list[UnsupportedSource] = []
    for name, files in claims.items():
        try:
            return converters[name].open(files, root=root, options=options), name
        except UnsupportedSource as no:
            refused.append(no)
    raise next((no for no in refused if not isinstance(no, OtherFormat)), refused[0])


def _check_sensor(asked: str, found: str, name: str, *, alike: Sequence[str]) -> None:
    """`TIFF` is also what `TIFF RGB` is; everything else has to be what was said."""
    if asked in ANY or asked == found or (asked in alike and found.startswith(f"{asked} ")):
        return
    raise UnsupportedSource(
        f"{name} was said to be {asked}, but it is {found}; choose {found}, or leave the choice"
    )


def _refusal(heads: Mapping[Path, bytes]) -> UnreadableSource | UnsupportedSource:
    full = {file: head for file, head in heads.items() if head}
    if not full:
        return UnreadableSource(f"{_listed(list(heads))}: empty (0 bytes); upload it again")
    file = max(full, key=lambda each: each.stat().st_size)  # what a folder is about is seldom its README
    others = f" (and {len(full) - 1} more)" if len(full) > 1 else ""
    return UnsupportedSource(f"nothing here reads {file.name}{others}: {seen(full[file], file.name)}")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [file for file in path.rglob("*") if file.is_file() and not _is_litter(file.relative_to(path))]
    if not found:
        raise UnreadableSource(f"the folder {path.name} holds no files; upload them again")
    root = path.resolve()
    for file in found:
        if not file.resolve().is_relative_to(root):
            raise UnsafeSource(f"{file.name} leads to a file outside the data set; upload the file itself")
    return sorted(found, key=lambda file: natural(file.relative_to(path).as_posix()))


def _is_litter(path: Path) -> bool:
    return any(part.startswith(".") or part.lower() in _LITTER for part in path.parts)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _listed(files: Sequence[Path]) -> str:
    return ", ".join(file.name for file in files[:8]) + (f" and {len(files) - 8} more" if len(files) > 8 else "")
