"""What the controls beside the viewer work on: sliders, contrast with its histograms, colour maps, channels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, sqrt
from typing import Any

from scientistcloud.portal import viewer_state
from scientistcloud.portal.api.data import Publication, value_address
from scientistcloud.portal.colours import COLOUR_MAPS
from scientistcloud.portal.forms import Histogram, Picture, PictureAxis
from scientistcloud.portal.pages.facts import symbol, units
from scientistcloud.portal.pages.view import viewer_address
from scientistcloud.records import Dataset


@dataclass(frozen=True, slots=True)
class Slider:
    """An axis that is not on the screen: time, a custom axis, or z while one plane is shown."""

    name: str
    label: str
    length: int
    index: int
    scale: float
    origin: float
    unit: str
    #: True: shown only while the layout is one plane, since the other layouts show this axis.
    depth: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """What the controls beside the viewer need to know."""

    address: str
    sliders: tuple[Slider, ...]
    volume: bool
    rgb: bool
    #: Name, colour (RRGGBB) and whether shown, for each of several channels; () where there is one.
    channels: tuple[tuple[str, str, bool], ...]
    #: For each channel (one for RGB): what the contrast control works on.
    contrasts: tuple[dict[str, Any], ...]
    #: For each contrast, paths of an SVG 256 × 64.
    histograms: tuple[tuple[str, ...], ...]
    maps: tuple[dict[str, Any], ...]
    units: str
    #: Stored values that mean "no data".
    missing: tuple[float | int, ...]
    #: The names of the picture's axes, in order.
    axes: tuple[str, ...]
    #: Where the value stored at a place can be asked for, if what is shown is not it.
    exact: str | None

    @property
    def for_script(self) -> str:
        """What the page's script works with."""
        return json.dumps(
            {
                "contrasts": self.contrasts,
                "sliders": [
                    {
                        "name": each.name, "length": each.length, "scale": each.scale, "origin": each.origin,
                        "unit": each.unit, "depth": each.depth,
                    }
                    for each in self.sliders
                ],
                "rgb": self.rgb,
                "volume": self.volume,
                "units": self.units,
                "missing": self.missing,
                "axes": self.axes,
                "exact": self.exact,
            }
        )  # fmt: skip


def panel(dataset: Dataset, shown: Publication, picture: Picture) -> Panel:
    """The controls for `picture`."""
    on_screen = viewer_state.shown_axes(picture)
    several = len(picture.channels) > 1 and not picture.rgb
    moved = [axis for axis in picture.axes if axis not in on_screen and axis.kind != "channel"]
    sliders = [_slider(axis, depth=False) for axis in moved if axis.length > 1]
    if len(on_screen) == 3 and on_screen[2].length > 1:
        sliders.append(_slider(on_screen[2], depth=True))
    contrasts = _contrasts(picture)
    histograms = _histograms(picture)
    return Panel(
        address=viewer_address(dataset, shown, picture),
        sliders=tuple(sliders),
        volume=len(on_screen) == 3,
        rgb=picture.rgb,
        channels=tuple(
            (str(each.get("label") or f"channel {index}"), str(each.get("color") or "FFFFFF"), True)
            for index, each in enumerate(picture.channels[: viewer_state.MOST_CHANNELS])
        )
        if several
        else (),
        contrasts=contrasts,
        histograms=histograms,
        maps=()
        if several or picture.rgb
        else tuple(
            {
                "name": each.name,
                "label": each.label,
                "stops": each.stops,
                "shader": viewer_state.shader(picture, each),
                "chosen": each.name == viewer_state.first_map(picture),
            }
            for each in COLOUR_MAPS.values()
        ),
        units=units(picture),
        missing=viewer_state.missing_values(picture),
        axes=tuple(axis.name for axis in picture.axes),
        exact=value_address(dataset, shown, picture) if picture.made_float32 and not picture.channel_axis else None,
    )


def _slider(axis: PictureAxis, *, depth: bool) -> Slider:
    return Slider(
        name=axis.name,
        label={"t": "Time", "z": "z"}.get(axis.name, axis.name),
        length=axis.length,
        index=axis.length // 2,
        scale=axis.scale,
        origin=axis.origin,
        unit=symbol(axis.unit),
        depth=depth,
    )


def _contrasts(picture: Picture) -> tuple[dict[str, Any], ...]:
    factor, offset = (_number(picture.attributes.get(name), default) for name, default in _PACKING)
    channels = picture.channels[:1] if picture.rgb else picture.channels[: viewer_state.MOST_CHANNELS]
    out = []
    for index, channel in enumerate(channels):
        window = viewer_state.window_of(channel)
        if window is None:
            continue
        start, end, low, high = window
        histogram = picture.histograms[index] if index < len(picture.histograms) else None
        # The track is as wide as the histogram, which leaves out the far tails; typed numbers go to min and max.
        out.append(
            {
                "start": start,
                "end": end,
                "min": low,
                "max": high,
                "low": histogram.low if histogram else low,
                "high": histogram.high if histogram else high,
                "factor": factor,
                "offset": offset,
            }
        )
    return tuple(out)


_PACKING = (("scale_factor", 1.0), ("add_offset", 0.0))


def _number(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def _histograms(picture: Picture) -> tuple[tuple[str, ...], ...]:
    whole = picture.dtype.startswith(("int", "uint"))
    shown = [evened(each) if whole else each.counts for each in picture.histograms]
    if picture.rgb:
        return (tuple(outline(counts) for counts in shown[:3]),)
    return tuple((outline(counts[::-1] if picture.upside_down else counts),) for counts in shown)


def evened(histogram: Histogram) -> tuple[float, ...]:
    """How often each whole number occurs, by bin: one bin may hold two of them and the next one three, or none.

    What a bin without any shows is what the number before it does, as a bar from one number to the next.
    """
    step = (histogram.high - histogram.low) / len(histogram.counts)
    if not step > 1e-6 * max(1.0, abs(histogram.low), abs(histogram.high)):
        return histogram.counts  # beyond what doubles tell apart
    edges = [ceil(histogram.low + step * k - 1e-6 * step) for k in range(len(histogram.counts))]
    edges.append(floor(histogram.high) + 1)  # the last bin holds its upper end too
    found: list[float] = []
    for count, first, end in zip(histogram.counts, edges, edges[1:], strict=False):
        found.append(count / (end - first) if end > first else found[-1] if found else 0)
    return tuple(found)


def outline(counts: Sequence[float]) -> str:
    """The histogram as an SVG path in a box of 256 × 64, roots of the counts so that small ones show."""
    tallest = sqrt(max(counts)) or 1.0
    width = 256 / len(counts)
    steps = [f"M0 64V{64 - 62 * sqrt(counts[0]) / tallest:.1f}"]
    steps += [f"H{width * (i + 1):.1f}V{64 - 62 * sqrt(n) / tallest:.1f}" for i, n in enumerate((*counts[1:], 0))]
    return "".join(steps) + "V64Z"
