"""EXIF, XMP and colour profile of a photograph, as JSON and as what is done with them."""

from __future__ import annotations

import io
import math
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from PIL import ExifTags
from PIL.Image import Exif

from scientistcloud.converters import colours
from scientistcloud.converters.formats.photographs.header import Header
from scientistcloud.records import Json

# What a file of nonsense makes Pillow raise.
_BROKEN = (
    ValueError, LookupError, ArithmeticError, TypeError, AttributeError, RuntimeError, SyntaxError, OSError,
    struct.error,
)  # fmt: skip
_LONGEST_TEXT = 4096
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_KEPT_APART = {0x8769: "ExifOffset", 0x8825: "GPSInfo", 0xA005: "InteroperabilityOffset", 0x14A: "SubIFDs"}
_BULK = frozenset({"MakerNote", "UserComment", "PrintImageMatching", "XMLPacket", "InterColorProfile", "JPEGTables",
                   "ImageResources", "StripOffsets", "StripByteCounts", "TileOffsets", "TileByteCounts",
                   "IPTCNAA"})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What a photograph says of itself."""

    #: EXIF orientation, 1 to 8; 1 where it says none or nonsense.
    orientation: int = 1
    #: The camera's maker and model.
    make: str = ""
    model: str = ""
    #: The ICC profile of its colours; that of Adobe RGB where EXIF alone says so.
    icc: bytes = b""
    #: `latitude` and `longitude` in degrees, `altitude` in metres above the sea; as many as are known.
    place: Mapping[str, float] = field(default_factory=dict)
    #: Everything, as JSON.
    metadata: Json = field(default_factory=dict)


def details(header: Header, path: Path) -> Details:
    """Of the photograph at `path`. What cannot be understood is left out: the picture is what matters."""
    main, photo, gps, interop = _tags(header, path)
    icc = header.icc or (colours.adobe_rgb() if _is_adobe(photo, interop) else b"")
    orientation = main.get(0x0112)
    place = _place(gps)
    metadata = {
        "exif": {**_named(main, ExifTags.TAGS), **_named(photo, ExifTags.TAGS)},
        "gps": {**place, **_named(gps, ExifTags.GPSTAGS)},
        "xmp": xmp(header.xmp),
        "icc_profile": colours.name_of(icc),
    }
    return Details(
        orientation=orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1,
        make=_text(main.get(0x010F)),
        model=_text(main.get(0x0110)),
        icc=icc,
        place=place,
        metadata={key: value for key, value in metadata.items() if value},
    )


def _tags(header: Header, path: Path) -> tuple[dict[int, Any], ...]:
    """The main directory, the photograph's own, its place's and its colours', as far as they can be read."""
    exif = Exif()
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")  # of tags that are said to lie beyond the end
        try:
            if header.kind == "TIFF":
                exif.load_from_fp(file)
            elif header.exif:
                exif.load(b"Exif\0\0" + header.exif)
            return (dict(exif), *(dict(exif.get_ifd(each)) for each in (0x8769, 0x8825, 0xA005)))
        except _BROKEN:
            return {}, {}, {}, {}


def xmp(packet: bytes) -> dict[str, str]:
    """The simple properties of an XMP packet, as ``drone-dji:GimbalYawDegree``."""
    if not packet or b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:  # XMP has neither; attacks do
        return {}
    prefixes: dict[str, str] = {}
    found: dict[str, str] = {}
    try:
        for event, each in ET.iterparse(io.BytesIO(packet.rstrip(b"\0")), events=("start-ns", "end")):  # noqa: S314
            if event == "start-ns":
                prefixes.setdefault(each[1], each[0])
                continue
            pairs = [*each.attrib.items(), *([(each.tag, each.text or "")] if not len(each) else [])]
            for name, value in pairs:
                uri, _, local = name[1:].partition("}")
                if local and uri in prefixes and uri != _RDF and value.strip():
                    found[f"{prefixes[uri]}:{local}"] = value.strip()[:_LONGEST_TEXT]
    except ET.ParseError:
        pass  # what was read before it broke is true
    return found


def _named(tags: Mapping[int, Any], names: Mapping[int, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for tag, value in tags.items():
        name = names.get(tag, f"tag {tag}")
        plain = _plain(value)
        if tag not in _KEPT_APART and name not in _BULK and plain not in (None, ""):
            found[name] = plain
    return found


def _plain(value: Any) -> Any:
    """`value` as JSON; None for what is none, or too much."""
    match value:
        case bool() | int():
            return value
        case str() | bytes():
            return _text(value) if len(value) <= _LONGEST_TEXT else None
        case tuple() | list():
            return [_plain(each) for each in value] if len(value) <= 64 else None
        case _:
            return _number(value)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except _BROKEN:
        return None
    return number if math.isfinite(number) else None


def _text(value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""
    return "".join(each for each in text.strip("\0 \n\r\t") if each.isprintable())


def _place(gps: Mapping[int, Any]) -> dict[str, float]:
    """Decimal degrees and metres; signs from the references."""
    found: dict[str, float] = {}
    for name, at, reference, negative in (("latitude", 2, 1, "S"), ("longitude", 4, 3, "W")):
        parts = gps.get(at)
        numbers = [_number(part) for part in parts] if isinstance(parts, tuple | list) else []
        if len(numbers) == 3 and None not in numbers:
            degrees = sum((part or 0.0) / 60**power for power, part in enumerate(numbers))
            found[name] = round(-degrees if _text(gps.get(reference)).upper() == negative else degrees, 9)
    altitude = _number(gps.get(6)) if 6 in gps else None
    if altitude is not None:
        below = gps.get(5) in (1, b"\x01")
        found["altitude"] = -altitude if below else altitude
    return found


def _is_adobe(photo: Mapping[int, Any], interop: Mapping[int, Any]) -> bool:
    """Cameras say so by the rules for file systems (DCF 2.0), or by a value of their own."""
    return _text(interop.get(1)).strip("\0 ") == "R03" or photo.get(0xA001) == 2
