"""What a converted form says of itself: its pictures, read from OME-Zarr metadata in plain JSON.

A form holds one image with a `multiscales` entry for each variable, or (``bioformats2raw.layout``) several
images in groups ``0``, ``1``, …. Each entry is a `Picture` here, with a name that is unique in the form. Nothing
of the arrays is read but the ``zarr.json`` of each finest level.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from scientistcloud.errors import NotFound, Unavailable
from scientistcloud.records import Json

METADATA = "zarr.json"
OURS = "scientistcloud"
"""The root's attribute where the writer says how the form came about."""
VIEWABLE = frozenset({"uint8", "uint16", "uint32", "int8", "int16", "int32", "float32"})
"""What the viewer's shaders read. They read uint64 as well, but its client cannot save such a contrast as JSON."""
NUMBERS = VIEWABLE | {"bool", "int64", "uint64", "float16", "float64", "complex64", "complex128"}
"""What can be made float32 for looking at."""
_PARTS = {"amplitude": "", "phase": "~phase"}  # of complex numbers, and how that picture's name ends


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureAxis:
    """One axis of a picture, at full resolution."""

    name: str
    #: `time`, `channel`, `space`, or another (custom).
    kind: str
    length: int
    #: Distance of neighbouring pixels in `unit`; 1 where nothing is known.
    scale: float
    #: Where the centre of the first pixel lies, in `unit`.
    origin: float
    #: One of OME-NGFF's, "" for none.
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts in bins of equal width from `low` to `high`, in stored values."""

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One variable that can be looked at."""

    #: Unique in the form; in the addresses of `/view-data/`.
    name: str
    #: For people.
    label: str
    #: The group that holds its `multiscales`, relative to the form's root: "" or ``0``.
    group: str
    #: Which entry of that group's `multiscales`.
    entry: int
    axes: tuple[PictureAxis, ...]
    dtype: str
    #: Paths of the arrays relative to the form's root, finest first.
    levels: tuple[str, ...]
    #: `omero`'s channels: colour, label, window; () where there are none.
    channels: tuple[Json, ...]
    #: True: the channels are red, green, blue and perhaps alpha.
    rgb: bool
    #: One for each channel, over stored values; () where the writer left none.
    histograms: tuple[Histogram, ...] = ()
    #: Rows go from south to north.
    northward: bool = False
    #: A photograph in grey, which is shown so.
    grey: bool = False
    #: CF attributes of the finest array: `units`, `long_name`, `scale_factor` …
    attributes: Json = field(default_factory=dict)
    #: Of complex numbers, what is shown: `amplitude` or `phase`; "" for all others.
    part: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.length for axis in self.axes)

    @property
    def channel_axis(self) -> PictureAxis | None:
        return next((axis for axis in self.axes if axis.kind == "channel"), None)

    @property
    def upside_down(self) -> bool:
        """Packed with a negative factor: the greatest stored value is the least."""
        factor = self.attributes.get("scale_factor", 1)
        return isinstance(factor, int | float) and factor < 0

    @property
    def made_float32(self) -> bool:
        """Whether the viewer gets float32 made from what is stored, missing values as NaN."""
        return self.dtype in NUMBERS - VIEWABLE

    @property
    def shown_dtype(self) -> str:
        """The dtype that the viewer gets."""
        return "float32" if self.made_float32 else self.dtype

    @property
    def why_not(self) -> str | None:
        """Why the viewer cannot show it, for people; None where it can."""
        if self.dtype in NUMBERS:
            return None
        return (
            f"The interactive viewer cannot show {self.dtype} values, so this is a still picture. "
            "The values themselves are kept exactly; open them from Python."
        )


@lru_cache(maxsize=256)
def pictures_of(form: Path, token: str) -> tuple[Picture, ...]:
    """The pictures of the form at `form`, the one to show first in front.

    `token` is that of its publication: the same token, the same form, so the answer is kept.
    Raises `NotFound` where there is no form, `Unavailable` where its metadata cannot be read.
    """
    del token
    root = _attributes(_metadata(form, ()))
    if "bioformats2raw.layout" in (root.get("ome") or {}):
        return tuple(_of_series(form))
    return tuple(_of_image(form, "", root))


def find_picture(pictures: Sequence[Picture], name: str | None) -> Picture:
    """The picture called `name`, the first where none is named. Raises `NotFound`."""
    for picture in pictures:
        if name is None or picture.name == name:
            return picture
    raise NotFound(f"there is no variable {name!r} in this data set; its page lists those that there are")


def metadata_of(form: Path, group: str) -> dict[str, Any]:
    """The ``zarr.json`` of a group of the form. Raises `NotFound`, `Unavailable`."""
    return _metadata(form, tuple(part for part in group.split("/") if part))


# -- reading -------------------------------------------------------------------------------------


def _of_series(form: Path) -> Iterator[Picture]:
    ome = _attributes(_metadata(form, ("OME",))).get("ome") or {}
    for group in ome.get("series") or _numbered(form):
        yield from _of_image(form, str(group), _attributes(_metadata(form, (str(group),))))


def _numbered(form: Path) -> list[str]:
    return sorted((each.name for each in form.iterdir() if each.name.isdecimal()), key=int)


def _of_image(form: Path, group: str, attributes: Json) -> Iterator[Picture]:
    ome = attributes.get("ome") or {}
    entries = ome.get("multiscales") or []
    for index, entry in enumerate(entries):
        levels = tuple(f"{group}/{each['path']}".lstrip("/") for each in entry["datasets"])
        array = _metadata(form, tuple(levels[0].split("/")))
        variable = levels[0].rpartition("/")[2]
        channels = _channels(ome, entry, index)
        axes = _axes(entry, array["shape"])
        picture = Picture(
            name=f"{group}.{variable}" if group else variable,
            label=str(entry.get("name") or variable),
            group=group,
            entry=index,
            axes=axes,
            dtype=str(array["data_type"]),
            levels=levels,
            channels=channels,
            rgb=_is_rgb(axes, channels),
            histograms=_histograms(entry),
            northward=bool((entry.get("metadata") or {}).get("northward")),
            grey=bool((entry.get("metadata") or {}).get("grey")),
            attributes=array.get("attributes") or {},
        )
        yield from _parts(picture) if picture.dtype.startswith("complex") else (picture,)


def _parts(picture: Picture) -> Iterator[Picture]:
    """Amplitude, which the writer's windows speak of, and phase."""
    circle = {"start": -math.pi, "end": math.pi, "min": -math.pi, "max": math.pi}
    attributes = {key: value for key, value in picture.attributes.items() if key != "units"}
    for part, ending in _PARTS.items():
        named = replace(picture, name=picture.name + ending, label=f"{picture.label}, {part}", part=part)
        if part == "phase":
            channels = tuple({**each, "window": circle} for each in picture.channels)
            named = replace(named, channels=channels, histograms=(), attributes={**attributes, "units": "rad"})
        yield named


def _axes(entry: Json, shape: Sequence[int]) -> tuple[PictureAxis, ...]:
    finest = entry["datasets"][0]["coordinateTransformations"]
    ones, zeros = [1.0] * len(shape), [0.0] * len(shape)
    scale = next((each["scale"] for each in finest if each["type"] == "scale"), ones)
    origin = next((each["translation"] for each in finest if each["type"] == "translation"), zeros)
    return tuple(
        PictureAxis(
            name=str(axis["name"]),
            kind=str(axis.get("type") or "custom"),
            length=int(length),
            scale=positive(step),
            origin=float(first),
            unit=str(axis.get("unit") or ""),
        )
        for axis, length, step, first in zip(entry["axes"], shape, scale, origin, strict=True)
    )


def positive(step: Any) -> float:
    """A scale as the viewer takes it: a direction has no place in it."""
    size = abs(float(step))
    return size if 0 < size < math.inf else 1.0


def _metadata(form: Path, parts: tuple[str, ...]) -> dict[str, Any]:
    path = form.joinpath(*parts, METADATA)
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(
            f"the converted form has no {'/'.join((*parts, METADATA))}; convert the data set again"
        ) from None
    except (OSError, ValueError) as broken:
        raise Unavailable(f"{path.name} of the converted form cannot be read: {broken}; try again") from broken
    assert isinstance(found, dict)
    return found


def _attributes(metadata: dict[str, Any]) -> Json:
    return metadata.get("attributes") or {}


def _is_rgb(axes: Sequence[PictureAxis], channels: Sequence[Json]) -> bool:
    lengths = [axis.length for axis in axes if axis.kind == "channel"]
    colours = [str(each.get("color", "")).upper() for each in channels[:3]]
    return lengths in ([3], [4]) and colours == ["FF0000", "00FF00", "0000FF"]


def _channels(ome: Json, entry: Json, index: int) -> tuple[Json, ...]:
    """How each channel is shown. OME's own `omero` speaks of the group's first variable alone."""
    shown = entry.get("omero") or (ome.get("omero") if index == 0 else None) or {}
    return tuple(shown.get("channels") or ())


def _histograms(entry: Json) -> tuple[Histogram, ...]:
    return tuple(
        Histogram(low=float(each["low"]), high=float(each["high"]), counts=tuple(each["counts"]))
        for each in (entry.get("metadata") or {}).get("histograms") or ()
        if sum(each["counts"]) and each["high"] > each["low"]
    )
