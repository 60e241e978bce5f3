"""Other files that an OME-TIFF names: looked at before anything opens one of them.

tifffile joins whatever name the XML gives to the file's folder and opens the result.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from scientistcloud.converters.formats.tiff import directory
from scientistcloud.converters.formats.tiff.files import Files
from scientistcloud.errors import UnreadableSource, UnsafeSource, UnsupportedSource


@dataclass(frozen=True, slots=True)
class Companions:
    """What an OME-TIFF's XML leads to, all of it within the data set."""

    #: The other TIFF files that hold planes of its images, as far as they are there.
    files: tuple[Path, ...] = ()
    #: Names of those that are not there.
    missing: tuple[str, ...] = ()
    #: The XML that was looked at, the companion's where there is one; tifffile is to see no other.
    xml: str | None = None
    #: Whether that description stands in a file of its own.
    apart: bool = False


def companions(path: Path, description: str, root: Path) -> Companions:
    """Of the file `path` with this image description.

    Raises `UnsafeSource` for a name that leads out of `root`, `UnreadableSource` for a companion that is missing.
    """
    tree = _tree(description)
    if tree is None:
        return Companions()
    xml, apart = description, False
    for each in tree:
        if each.tag.endswith("BinaryOnly"):
            name = each.get("MetadataFile", "")
            other = inside(path, name, root)
            if not other.is_file():
                raise UnreadableSource(
                    f"{path.name} keeps its description in {name!r}, which is missing; upload both together"
                )
            xml, apart = _text(other), True
            tree = _tree(xml)
            if tree is None:
                raise UnsupportedSource(f"{name} beside {path.name} is no OME-XML; export the images anew")
            break
    named = dict.fromkeys(
        each.get("FileName", "") for each in tree.iter() if each.tag.endswith("UUID") and each.get("FileName")
    )
    found = {name: inside(path, name, root) for name in named}
    files = tuple(dict.fromkeys(each for each in found.values() if each.is_file() and each != path))
    missing = tuple(name for name, each in found.items() if not each.is_file())
    return Companions(files, missing, xml, apart)


def _text(path: Path) -> str:
    """A companion's XML: all of a file `.companion.ome`, or the description of another OME-TIFF."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return path.read_bytes().decode("utf-8", "replace").strip()
    files = Files([path])
    try:
        return directory.follow(files, 0).description
    finally:
        files.close()


def inside(path: Path, name: str, root: Path) -> Path:
    """The file called `name` in the XML of `path`; raises `UnsafeSource` unless it lies within `root`."""
    plain = name.replace("\\", "/")
    resolved = (path.parent / plain).resolve()
    absolute = plain.startswith("/") or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", plain)
    if absolute or not resolved.is_relative_to(root.resolve()):
        raise UnsafeSource(
            f"{path.name} names a file outside its data set: {name!r}; upload all its files together, in one folder"
        )
    return path.parent / plain


def _tree(xml: str) -> ET.Element | None:
    """The XML of a description; None for what is none. expat itself bounds how far entities expand."""
    if not xml.endswith("OME>"):
        return None
    try:
        return ET.fromstring(xml)  # noqa: S314
    except (ET.ParseError, ValueError):
        return None
