"""Spacing, units and channels as the dialects of TIFF write them: OME-XML, ImageJ, MetaMorph, plain tags."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as ET

import tifffile

from scientistcloud.converters.units import ome_length, ome_time
from scientistcloud.omezarr.image import Channel

# Resolutions that cameras, scanners and printers write without having measured anything, in dots per inch.
_DPI = (72, 75, 90, 96, 100, 120, 144, 150, 180, 200, 240, 250, 300, 350, 360, 400, 600, 720, 1200, 2400)
_COLORS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF", "FFFFFF")
_INKS = {
    5: (("cyan", "00FFFF"), ("magenta", "FF00FF"), ("yellow", "FFFF00"), ("black", "FFFFFF")),
    6: (("Y", "FFFFFF"), ("Cb", "0000FF"), ("Cr", "FF0000")),
    8: (("L*", "FFFFFF"), ("a*", "FF00FF"), ("b*", "FFFF00")),
}
_RGB = (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a file says about its axes and channels."""

    #: Spacing and unit (OME's spelling, or None) by axis name.
    spacing: Mapping[str, tuple[float, str | None]] = field(default_factory=dict)
    #: Name and colour (RRGGBB) of each channel, where the file gives any.
    channels: Sequence[tuple[str | None, str | None]] = ()


def calibration(tiff: tifffile.TiffFile, page: tifffile.TiffPage, kind: str, number: int) -> Calibration:
    """Of series `number` of a file, whose dialect is `kind`."""
    match kind:
        case "ome":
            return _ome(tiff.ome_metadata or "", number, page)
        case "imagej":
            return _imagej(tiff.imagej_metadata or {}, page)
        case "stk":
            return _metamorph(tiff.stk_metadata or {})
        case _:
            return _plain(page)


def channels(
    page: tifffile.TiffPage, count: int, said: Calibration, *, samples: bool
) -> tuple[tuple[Channel, ...], bool]:
    """A channel for each index of the channel axis, and whether they are red, green, blue (and alpha).

    A fourth sample that is not declared as alpha (near infrared, more often than not) is a channel as others.
    """
    if samples and is_rgb(page) and count in (3, 4):
        alpha = count == 4 and any(int(extra) in (1, 2) for extra in page.extrasamples)
        last = ("alpha", "FFFFFF") if alpha else ("extra", "FFFFFF")
        made = tuple(Channel(label=label, color=color) for label, color in (*_RGB, last)[:count])
        return made, count == 3 or alpha
    if samples and int(page.photometric) in _INKS and count >= len(_INKS[int(page.photometric)]):
        inks = _INKS[int(page.photometric)]
        rest = [(f"sample {index + 1}", "FFFFFF") for index in range(len(inks), count)]
        return tuple(Channel(label=label, color=color) for label, color in (*inks, *rest)), False
    named = [*said.channels, *[(None, None)] * count][:count]
    return tuple(
        Channel(
            label=label or f"channel {index + 1}",
            color=color or ("FFFFFF" if count == 1 else _COLORS[index % len(_COLORS)]),
        )
        for index, (label, color) in enumerate(named)
    ), False


def is_rgb(page: tifffile.TiffPage) -> bool:
    """Photometric RGB with 3 or 4 samples, or a JPEG's YCbCr, which decodes to RGB."""
    if int(page.samplesperpixel) not in (3, 4):
        return False
    jpeg = int(page.compression) in (6, 7)
    return int(page.photometric) == 2 or (int(page.photometric) == 6 and jpeg)


def _ome(xml: str, number: int, page: tifffile.TiffPage) -> Calibration:
    found = _pixels(xml, number, page)
    if found is None:
        return Calibration()
    spacing: dict[str, tuple[float, str | None]] = {}
    for axis in "XYZ":
        value = _positive(found.get(f"PhysicalSize{axis}"))
        unit = found.get(f"PhysicalSize{axis}Unit", "µm")
        if value and unit not in ("pixel", "reference frame"):
            spacing[axis.lower()] = (value, ome_length(unit))
    if value := _positive(found.get("TimeIncrement")):
        spacing["t"] = (value, ome_time(found.get("TimeIncrementUnit", "s")))
    named = [(each.get("Name"), _color(each.get("Color"))) for each in found if each.tag.endswith("Channel")]
    return Calibration(spacing, named)


def _pixels(xml: str, number: int, page: tifffile.TiffPage) -> ET.Element | None:
    """What describes series `number`; images without planes are in the XML, but are no series."""
    try:
        root = ET.fromstring(xml)  # noqa: S314  # expat itself bounds how far entities expand
    except ET.ParseError:
        return None
    size = {"SizeX": str(page.imagewidth), "SizeY": str(page.imagelength)}
    known = [each for each in root.iter() if each.tag.endswith("Pixels")]
    fitting = [each for each in known if all(each.get(key) == value for key, value in size.items())]
    if number < len(known) and known[number] in fitting:
        return known[number]
    return fitting[0] if len(fitting) == 1 else None


def _color(text: str | None) -> str | None:
    """OME writes RGBA as a signed integer of 32 bits."""
    try:
        value = int(text or "") & 0xFFFFFFFF
    except ValueError:
        return None
    return f"{value >> 8:06X}"


def _imagej(said: Mapping[str, Any], page: tifffile.TiffPage) -> Calibration:
    unit = ome_length(str(said.get("unit", "")))
    spacing: dict[str, tuple[float, str | None]] = {}
    if unit:  # without one, ImageJ's numbers are pixels
        for axis, tag in (("x", "XResolution"), ("y", "YResolution")):
            if value := _inverse(page.tags.valueof(tag)):
                spacing[axis] = (value, unit)
        if value := _positive(said.get("spacing")):
            spacing["z"] = (value, unit)
    if value := _positive(said.get("finterval")):
        spacing["t"] = (value, ome_time(str(said.get("tunit", "s"))) or "second")
    labels = said.get("Labels")
    named = [(str(label), None) for label in labels] if isinstance(labels, list) else []
    return Calibration(spacing, named if len(named) == said.get("channels") else [])


def _metamorph(said: Mapping[str, Any]) -> Calibration:
    spacing: dict[str, tuple[float, str | None]] = {}
    unit = ome_length(str(said.get("CalibrationUnits", "")))
    if said.get("SpatialCalibration") and unit:
        for axis in "XY":
            if value := _positive(said.get(f"{axis}Calibration")):
                spacing[axis.lower()] = (value, unit)
    distances = said.get("ZDistance")
    if distances is not None and len(distances) > 1 and unit:
        steps = {round(float(each), 9) for each in distances[1:]}
        if len(steps) == 1 and (value := _positive(steps.pop())):
            spacing["z"] = (value, unit)
    return Calibration(spacing)


def _plain(page: tifffile.TiffPage) -> Calibration:
    unit = {2: "inch", 3: "centimeter"}.get(int(page.tags.valueof("ResolutionUnit", default=2)))
    spacing: dict[str, tuple[float, str | None]] = {}
    for axis, tag in (("x", "XResolution"), ("y", "YResolution")):
        value = _inverse(page.tags.valueof(tag))
        if value and unit:
            dpi = (1 if unit == "inch" else 2.54) / value
            if dpi > 10 and not any(math.isclose(dpi, usual, rel_tol=0.005) for usual in _DPI):
                spacing[axis] = (value, unit)
    return Calibration(spacing if len(spacing) == 2 else {})


def _inverse(resolution: Any) -> float | None:
    """Pixels per unit, written as a fraction, as units per pixel."""
    try:
        numerator, denominator = resolution
    except (TypeError, ValueError):
        return None
    return denominator / numerator if numerator > 0 and denominator > 0 else None


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < math.inf else None
