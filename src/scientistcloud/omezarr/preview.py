"""A still picture of a store's default image: right aspect, orientation and colours; no metadata in it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from PIL import Image as Picture
from PIL import ImageCms

from scientistcloud.omezarr.coordinates import is_northward
from scientistcloud.omezarr.image import Array, Axis, AxisKind, Coordinate, Image
from scientistcloud.omezarr.metadata import channels_of
from scientistcloud.omezarr.pyramid import Level, representable, valid
from scientistcloud.omezarr.statistics import Window

LONG_SIDE = 1024
_QUALITY = 85
_MOST_STRETCH = 8.0
_MOST_CHANNELS = 8
# matplotlib's viridis at ten equal steps (CC0, Nathaniel Smith and Stéfan van der Walt)
_VIRIDIS: Array = np.array(
    [
        [int(each[i : i + 2], 16) for i in (0, 2, 4)]
        for each in (
            "440154",
            "482878",
            "3E4A89",
            "31688E",
            "26828E",
            "1F9E89",
            "35B779",
            "6DCD59",
            "B4DE2C",
            "FDE725",
        )
    ]
)


def write_preview(
    path: Path,
    *,
    arrays: Sequence[Path],
    levels: Sequence[Level],
    image: Image,
    windows: Sequence[Window],
    coordinates: Mapping[str, Coordinate],
) -> None:
    """Write `path` as WebP, at most `LONG_SIDE` pixels on its longer side.

    The middle of time, z and custom axes is shown; channels in their colours, photographs as they are, everything
    else in viridis, from the 1st to the 99th percentile of what is shown. Fill values and NaN are transparent. The
    colours of a photograph with an ICC profile become those of sRGB.
    """
    k = next((k for k, level in enumerate(levels) if max(level.shape[-2:]) <= LONG_SIDE), len(levels) - 1)
    plane = _plane(arrays[k], image, levels[k].shape)
    pixels = _colours(plane, image, windows)
    if is_northward(image, coordinates):
        pixels = pixels[::-1]  # a map has the north on top
    picture = Picture.fromarray(np.ascontiguousarray(pixels), "RGBA")
    picture = picture.resize(_size(picture.size, image.axes[-2:], coordinates), Picture.Resampling.BOX)
    if image.rgb and image.icc:
        picture = _on_a_usual_screen(picture, image.icc)
    if (pixels[..., 3] == 255).all():
        picture = picture.convert("RGB")
    picture.save(path, "WEBP", quality=_QUALITY, method=4)


def _on_a_usual_screen(picture: Picture.Image, icc: bytes) -> Picture.Image:
    """`picture`, whose colours are those of the profile `icc`, in sRGB; as it is where that is damaged."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        grey = profile.profile.xcolor_space.strip() == "GRAY"
        seen = ImageCms.profileToProfile(
            picture.getchannel(0) if grey else picture.convert("RGB"),
            profile,
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return picture  # damaged, of inks, or of nothing that lcms knows
    assert seen is not None
    seen.putalpha(picture.getchannel("A"))
    return seen


def _plane(path: Path, image: Image, shape: Sequence[int]) -> Array:
    """The plane to show as (channels, y, x)."""
    array = ts.open(
        {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}, open=True, read=True
    ).result()
    where: list[Any] = []
    for axis, n in zip(image.axes[:-2], shape[:-2], strict=True):
        whole = axis.kind is AxisKind.CHANNEL
        where.append(slice(0, min(n, _MOST_CHANNELS)) if whole else slice(n // 2, n // 2 + 1))
    plane = np.asarray(array[(*where, slice(None), slice(None))].read().result())
    return plane.reshape(-1, *plane.shape[-2:])


def _colours(plane: Array, image: Image, windows: Sequence[Window]) -> Array:
    """RGBA, 8 bits each."""
    good = valid(plane, representable(image.fill, image.dtype))
    there = np.ones(plane.shape[1:], np.bool_) if good is None else good[:3].any(axis=0)
    opaque = np.where(there, 255, 0).astype(np.uint8)
    flipped = float(image.attributes.get("scale_factor", 1)) < 0  # packed upside down
    if not image.rgb:
        windows = [_own(each, window, image) for each, window in zip(plane, windows, strict=False)]
    shares = [_share(each, window, flipped=flipped) for each, window in zip(plane, windows, strict=False)]
    if image.rgb and len(shares) >= 3:
        if len(shares) == 4:
            opaque = np.minimum(opaque, _byte(shares[3]))
        return np.stack([*(_byte(share) for share in shares[:3]), opaque], axis=-1)
    if image.rgb and len(shares) == 1:
        return np.stack([*[_byte(shares[0])] * 3, opaque], axis=-1)
    if len(shares) == 1:
        steps = np.linspace(0, 1, len(_VIRIDIS))
        bands = [_byte(np.interp(shares[0], steps, _VIRIDIS[:, i] / 255)) for i in range(3)]
        return np.stack([*bands, opaque], axis=-1)
    mixed = np.zeros((*plane.shape[1:], 3))
    for share, channel in zip(shares, channels_of(image, len(windows)), strict=False):
        mixed += share[..., None] * np.frombuffer(bytes.fromhex(channel.color), np.uint8) / 255
    return np.concatenate([_byte(mixed), opaque[..., None]], axis=-1)


def _own(plane: Array, window: Window, image: Image) -> Window:
    """The window of this plane alone: one pressure level of an atmosphere is flat in the window of all of them."""
    good = valid(plane, representable(image.fill, image.dtype))
    numbers = np.abs(plane) if plane.dtype.kind == "c" else plane
    shown = np.sort((numbers if good is None else numbers[good]).astype(np.float64), axis=None)
    shown = shown[np.isfinite(shown)]
    if not shown.size or shown[0] == shown[-1]:
        return window
    start, end = (float(shown[int(share * (len(shown) - 1))]) for share in (0.01, 0.99))
    start, end = (start, end) if end > start else (float(shown[0]), float(shown[-1]))
    return Window(start, end, start, end)


def _share(values: Array, window: Window, *, flipped: bool) -> Array:
    """How far each value is on the way from the window's start to its end, 0 to 1."""
    numbers = np.abs(values) if values.dtype.kind == "c" else values.astype(np.float64)
    with np.errstate(all="ignore"):
        share = np.clip(np.nan_to_num((numbers - window.start) / (window.end - window.start)), 0, 1)
    return 1 - share if flipped else share


def _byte(share: Array) -> Array:
    return (np.clip(share, 0, 1) * 255 + 0.5).astype(np.uint8)


def _size(size: tuple[int, int], axes: Sequence[Axis], coordinates: Mapping[str, Coordinate]) -> tuple[int, int]:
    """Width and height that give both axes the same scale, where they have the same unit, within `LONG_SIDE`."""
    width, height = map(float, size)
    y, x = axes
    if y.spacing and x.spacing and _unit(y, coordinates) == _unit(x, coordinates) is not None:
        stretch = max(1 / _MOST_STRETCH, min(_MOST_STRETCH, y.spacing / x.spacing))
        width, height = (width, height * stretch) if stretch >= 1 else (width / stretch, height)
    shrink = min(1.0, LONG_SIDE / max(width, height))
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def _unit(axis: Axis, coordinates: Mapping[str, Coordinate]) -> str | None:
    if axis.unit:
        return axis.unit
    if axis.name not in coordinates:
        return None
    unit = str(coordinates[axis.name].attributes.get("units", "")) or None
    return "degrees" if unit and unit.lower().startswith("degree") else unit
