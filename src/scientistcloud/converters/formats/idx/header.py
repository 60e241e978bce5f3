"""The text of an ``.idx``, looked at before OpenVisus does: it names the files with its blocks, anywhere."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree as ET

from scientistcloud.errors import UnreadableSource, UnsafeSource, UnsupportedSource

MAGIC = b"(version)"
_LONGEST = 4 << 20
# What every writer of IDX writes; the template comes last, so that a header that was cut has none.
_NEEDED = ("box", "fields", "bits", "bitsperblock", "blocksperfile", "filename_template")
_KEY = re.compile(r"^\(([^()\n]+)\)[ \t]*\r?$", re.MULTILINE)
_NUMBER = re.compile(r"%0?\d{0,2}[xd]")
# What OpenVisus takes for more than a name: addresses with their queries, variables, formats.
_ODD = re.compile(r"[\x00-\x1f?#$%&|;<>\"'`*~]|://")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdxHeader:
    """What an ``.idx`` says of the files with its blocks, all of which lie in the data set."""

    path: Path
    #: The folder that holds them, and all of them that are there.
    folder: Path
    files: tuple[Path, ...]
    #: ``./tomo/%04x.bin`` and ``time%02d/``.
    template: str
    time_template: str
    #: The least and greatest coordinate of each axis, x first; None where the header gives none.
    physical: tuple[tuple[float, float], ...] | None
    axes: tuple[str, ...]


def read_header(path: Path, root: Path) -> IdxHeader:
    """Read and check the header of `path`, a file of the data set `root`.

    Raises `UnsafeSource` for a template that leads elsewhere, `UnreadableSource`, `UnsupportedSource`.
    """
    name = path.name
    if odd := _ODD.search(name):
        raise UnsafeSource(f"{name} has {odd.group()!r} in its name, which OpenVisus takes for more; rename it")
    text = _text(path)
    said = _sections(text)
    if missing := [key for key in _NEEDED if not said.get(key)]:
        raise UnreadableSource(f"{name} is damaged: it has no {' and no '.join(missing)}; upload it again")
    if said.get("arco", "0").strip() not in ("", "0"):
        raise UnsupportedSource(f"{name} has the layout of ARCO, which is not handled; save it as plain IDX")
    template = said["filename_template"]
    time_template = (said.get("time", "").split() or [""])[-1] if "%" in said.get("time", "") else ""
    for what, each in (("filename_template", template), ("time", time_template)):
        _check_template(name, what, each)
    folder = path.parent / PurePosixPath(template.split("%", 1)[0] + "_").parent
    return IdxHeader(
        path=path,
        folder=folder,
        files=_files(name, folder, root),
        template=template,
        time_template=time_template,
        physical=_pairs(said.get("physic_box", "")),
        axes=tuple(said.get("axis", "").split()),
    )


def refuse_several(path: Path) -> UnsafeSource | UnsupportedSource:
    """Why a MIDX, which puts others together, is not read: it may name others anywhere, and hold a program."""
    name = path.name
    advice = "send the .idx files that it is made of, each with its blocks"
    try:
        root = ET.fromstring(path.read_bytes()[:_LONGEST])  # noqa: S314  # expat bounds how far entities expand
    except ET.ParseError:
        return UnsupportedSource(f"{name} seems to be a MIDX of OpenVisus, and is no XML; {advice}")
    for each in root.iter():
        if each.tag.lower() == "code":
            return UnsafeSource(f"{name} holds a program of OpenVisus, which is never run; {advice}")
        address = each.get("url", "")
        if leads_elsewhere(address) or _ODD.search(address):
            return UnsafeSource(f"{name} names {address!r}, outside its data set; {advice}")
    return UnsupportedSource(f"{name} is a MIDX of OpenVisus, which puts others together; {advice}")


def leads_elsewhere(name: str) -> bool:
    """Whether `name` is absolute, an address, or climbs out of its folder."""
    parts = name.replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or ".." in parts or bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", name))


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_LONGEST + 1)
    if len(content) > _LONGEST:
        raise UnreadableSource(
            f"{path.name} is damaged: a header of more than {_LONGEST >> 20} MiB; upload it again"
        )
    return content.decode("utf-8", "replace")


def _sections(text: str) -> dict[str, str]:
    """What stands below each ``(key)``."""
    found: dict[str, str] = {}
    keys = list(_KEY.finditer(text))
    ends = [key.start() for key in keys[1:]] + [len(text)]
    for key, end in zip(keys, ends, strict=False):
        found.setdefault(key.group(1).strip().lower(), text[key.end() : end].strip())
    return found


def _check_template(name: str, what: str, template: str) -> None:
    if leads_elsewhere(template):
        raise UnsafeSource(f"{name} names its blocks {template!r}, outside its data set; upload them with it")
    rest = _NUMBER.sub("", template)
    if _ODD.search(rest) or (what == "filename_template" and rest == template):
        raise UnsafeSource(f"{name} has the {what} {template!r}, which is not followed; name the files plainly")


def _files(name: str, folder: Path, root: Path) -> tuple[Path, ...]:
    inside = root.resolve()
    if not folder.resolve().is_relative_to(inside):
        raise UnsafeSource(f"{name} leads to {folder.name}, outside its data set; upload its blocks with it")
    found = sorted(each for each in folder.rglob("*") if each.is_file()) if folder.is_dir() else []
    for each in found:
        if not each.resolve().is_relative_to(inside):
            raise UnsafeSource(f"{name} leads through {each.name} to a file outside its data set; upload the file")
    blocks = tuple(each for each in found if each.suffix.lower() not in (".idx", ".midx", ".xml", ".txt"))
    if not blocks:
        raise UnreadableSource(
            f"{name} is a header alone: {folder.name or '.'} beside it has no blocks; upload the folder with both"
        )
    return blocks


def _pairs(text: str) -> tuple[tuple[float, float], ...] | None:
    try:
        numbers = [float(each) for each in text.split()]
    except ValueError:
        return None
    pairs = tuple(zip(numbers[::2], numbers[1::2], strict=False))
    sound = all(math.isfinite(low) and math.isfinite(high) and low < high for low, high in pairs)
    return pairs if pairs and sound else None
