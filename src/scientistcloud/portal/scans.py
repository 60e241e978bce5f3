"""A scan in a form: the array of frames that stands beside the images, and which images are its maps and frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from scientistcloud.errors import NotFound, Unavailable
from scientistcloud.portal.forms import OURS, Picture, metadata_of
from scientistcloud.portal.viewer_state import numbers_meant
from scientistcloud.records import Json

_MASK = "pixel_mask"


@dataclass(frozen=True, slots=True)
class Scan:
    """Frames of a detector at rows and columns of points."""

    #: Of its array, relative to the form's root.
    path: str
    #: Names and lengths: rows and columns of the scan, rows and columns of a frame.
    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    attributes: Json
    #: Of the array beside it that says which pixels do not count; "" where there is none.
    mask: str = ""

    @property
    def missing(self) -> tuple[float | int, ...]:
        """Stored values that mean "no data", NaN left out."""
        return numbers_meant(self.attributes)

    def maps(self, pictures: Sequence[Picture]) -> list[Picture]:
        """Pictures with a value for each point."""
        return [each for each in pictures if _names(each) == self.names[:2] and each.shape == self.shape[:2]]

    def frames(self, pictures: Sequence[Picture]) -> list[Picture]:
        """Pictures with a value for each pixel of the detector."""
        return [each for each in pictures if _names(each) == self.names[2:] and each.shape == self.shape[2:]]


def _names(picture: Picture) -> tuple[str, ...]:
    return tuple(axis.name for axis in picture.axes)


@lru_cache(maxsize=256)
def scan_of(form: Path, token: str) -> Scan | None:
    """The scan in the form that was published with `token`; None where it holds none."""
    del token
    try:
        kept = (metadata_of(form, "").get("attributes") or {}).get(OURS, {}).get("plain_arrays") or {}
        for path in kept:
            array = metadata_of(form, path)
            names, shape = array.get("dimension_names") or (), array["shape"]
            if len(shape) == len(names) == 4:
                attributes = array.get("attributes") or {}
                masked = _MASK in str(attributes.get("coordinates", "")).split()
                mask = f"{path.rpartition('/')[0]}/{_MASK}" if masked else ""
                return Scan(path, tuple(names), tuple(shape), array["data_type"], attributes, mask)
    except (NotFound, Unavailable):
        pass  # being replaced at this moment: the page says how it stands
    return None
