"""MAPIR's Survey3 cameras: which wavelengths the three samples of their photographs are, and the index of two.

The filter behind the lens decides, and the camera's model names it: ``Survey3W_OCN``. Wavelengths in nm are those
of MAPIR's data sheets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scientistcloud.errors import InvalidParameters
from scientistcloud.omezarr.image import Array

MAKE = "MAPIR"
UNCALIBRATED = "uncalibrated"
"""Indices of pixel values as the camera wrote them: without a calibration target they are no reflectances."""


@dataclass(frozen=True, slots=True)
class Band:
    """What one sample of a pixel is."""

    name: str
    #: Centre of the filter's pass; None where the colours of a usual camera are meant.
    nanometres: int | None = None

    @property
    def label(self) -> str:
        return f"{self.name} {self.nanometres} nm" if self.nanometres else self.name

    @property
    def short(self) -> str:
        return f"{self.name.lower().replace(' ', '')}{self.nanometres or ''}"


@dataclass(frozen=True, slots=True)
class Filter:
    """One of the filters, by the order of the samples of a pixel."""

    bands: tuple[Band, ...]
    #: Samples of the index (a − b)/(a + b); None where there is none.
    index: tuple[int, int] | None = None

    @property
    def is_ndvi(self) -> bool:
        """NDVI is of near infrared and red, and of nothing else."""
        if self.index is None:
            return False
        one, other = (self.bands[place].name for place in self.index)
        return (one, other) == ("NIR", "red")


FILTERS: Mapping[str, Filter] = {
    "RGN": Filter((Band("red", 660), Band("green", 550), Band("NIR", 850)), (2, 0)),
    "OCN": Filter((Band("orange", 615), Band("cyan", 490), Band("NIR", 808)), (2, 0)),
    "NGB": Filter((Band("NIR", 850), Band("green", 550), Band("blue", 475)), (0, 1)),
    "RE": Filter((Band("red edge", 725),)),
    "NIR": Filter((Band("NIR", 850),)),
    "RGB": Filter((Band("red"), Band("green"), Band("blue"))),
}


def is_mapir(make: str) -> bool:
    return make.strip().upper() == MAKE


def filter_of(name: str, make: str, model: str, asked: str | None) -> Filter:
    """The filter of the photograph `name`: what was `asked` for, else what the camera's model says.

    Raises `InvalidParameters` where neither says it, which asks for it, and for an answer that is no filter. It is
    never guessed from the colours.
    """
    known = ", ".join(FILTERS)
    if asked is not None:
        if asked.upper() not in FILTERS:
            raise InvalidParameters(f"there is no MAPIR filter {asked!r}; it can be {known}")
        return FILTERS[asked.upper()]
    words = re.split(r"[^A-Za-z0-9]+", model)
    # Survey3W_RGN and its kin; the Survey1 and Survey2 had other filters under like names.
    found = FILTERS.get(words[-1].upper()) if words[0].upper() in ("SURVEY3", "SURVEY3W", "SURVEY3N") else None
    if found is None:
        camera = f"the camera {make} {model}".strip() if make or model else "a camera that it does not name"
        raise InvalidParameters(
            f"{name} was taken by {camera}, whose bands are not known here; say which filter it has, as bands: "
            f"{', '.join(FILTERS)}"
        )
    return found


def name_of_index(of: Filter) -> tuple[str, str]:
    """Its name in the store, and for people. Only what NDVI is is called so."""
    assert of.index is not None
    one, other = (of.bands[place] for place in of.index)
    formula = f"({one.label} − {other.label})/({one.label} + {other.label})"
    if of.is_ndvi:
        return "ndvi", f"NDVI = {formula}, {UNCALIBRATED}"
    return f"nd_{one.short}_{other.short}", f"normalized difference {formula}, {UNCALIBRATED}"


def index(one: Array, other: Array) -> Array:
    """(a − b)/(a + b) as float32; 0/0 is NaN, because nothing was measured there."""
    a, b = one.astype(np.float32), other.astype(np.float32)
    with np.errstate(invalid="ignore"):
        made: Array = (a - b) / (a + b)
    return made
