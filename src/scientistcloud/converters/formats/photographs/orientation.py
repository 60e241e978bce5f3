"""EXIF orientation: how the stored rows and columns become an upright picture."""

from __future__ import annotations

from scientistcloud.omezarr.image import Array

SAID = {
    2: "mirrored left to right",
    3: "turned by 180°",
    4: "mirrored top to bottom",
    5: "mirrored along its main diagonal",
    6: "turned by 90° clockwise",
    7: "mirrored along its other diagonal",
    8: "turned by 90° counter-clockwise",
}
"""What is done for each orientation but 1, which is upright."""


def upright(pixels: Array, orientation: int) -> Array:
    """A view of `pixels` (rows, columns, perhaps samples) the right way up; no value is copied or changed.

    EXIF 2.32, tag 274: which side of the scene the first row and the first column are.
    """
    if is_turned(orientation):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def is_turned(orientation: int) -> bool:
    """Whether rows become columns."""
    return orientation in (5, 6, 7, 8)
