"""The state in which the viewer opens: a pure function of a picture's metadata.

Neuroglancer's words: a *dimension* is an axis; ``c^`` makes of `c` a channel dimension, whose values a shader
gets together; ``c'`` a local dimension of one layer. Its `type: "auto"` gets RGB wrong and starts unfitted.
"""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

from scientistcloud.portal.colours import COLOUR_MAPS, ColourMap, one_colour
from scientistcloud.portal.forms import Picture, PictureAxis
from scientistcloud.records import Json

#: The viewer's own chrome is off: our page has the controls.
CONFIGURATION: Json = {
    "showUIControls": False,
    "showTopBar": False,
    "showLayerPanel": False,
    "showLocation": False,
    "showPanelBorders": False,
    "showLayerHoverValues": False,
}
#: Until the frame knows its size (viewer-frame.js fits again): width and height of a panel in pixels.
ASSUMED_PANEL = (900, 640)
MOST_CHANNELS = 8
DEFAULT_MAP = "viridis"

_SI: dict[str, tuple[str, float]] = {
    "": ("", 1.0),
    "angstrom": ("m", 1e-10),
    "foot": ("m", 0.3048),
    "inch": ("m", 0.0254),
    "mile": ("m", 1609.34),
    "parsec": ("m", 3.0856775814913673e16),
    "yard": ("m", 0.9144),
    "minute": ("s", 60.0),
    "hour": ("s", 3600.0),
    "day": ("s", 86400.0),
}
_PREFIXES = {
    "yotta": 24, "zetta": 21, "exa": 18, "peta": 15, "tera": 12, "giga": 9, "mega": 6, "kilo": 3, "hecto": 2,
    "": 0, "deci": -1, "centi": -2, "milli": -3, "micro": -6, "nano": -9, "pico": -12, "femto": -15, "atto": -18,
    "zepto": -21, "yocto": -24,
}  # fmt: skip
for _prefix, _exponent in _PREFIXES.items():
    _SI[f"{_prefix}meter"] = ("m", 10.0**_exponent)
    _SI[f"{_prefix}second"] = ("s", 10.0**_exponent)


def state_of(picture: Picture, source: str) -> dict[str, Any]:
    """The state that shows `picture`, whose chunks are at the address `source`.

    Dimensions stand as x, y, z and then whatever the sliders move through; positions are in pixels.
    """
    shown = shown_axes(picture)
    moved = [axis for axis in picture.axes if axis not in shown and axis.kind != "channel"]
    steps = {axis.name: dimension(axis) for axis in (*shown, *moved)}
    stretched = _stretched(shown)
    sizes = [steps[axis.name][0] * stretched.get(axis.name, 1.0) for axis in shown]
    extents = [axis.length * size / min(sizes) for axis, size in zip(shown, sizes, strict=True)]
    width, height = ASSUMED_PANEL
    three = is_volume(picture)
    state = {
        "dimensions": {name: list(step) for name, step in steps.items()},
        "displayDimensions": [axis.name for axis in shown],
        "relativeDisplayScales": stretched,
        "position": [_middle(axis) for axis in (*shown, *moved)],
        "crossSectionScale": max(extents[0] / width, extents[1] / height) * (2.0 if three else 1.05),
        "projectionScale": 1.1 * math.hypot(*extents),
        # Seen from a corner, so that a volume looks like one.
        "projectionOrientation": [-0.31, 0.27, 0.09, 0.907],
        "layers": layers_of(picture, source),
        "layout": "4panel" if three else "xy",
        "showAxisLines": False,
        "showDefaultAnnotations": False,
        "showSlices": False,
        "crossSectionBackgroundColor": "#000000",
        "projectionBackgroundColor": "#000000",
        "selectedLayer": {"visible": False},
    }
    if picture.northward:
        state["crossSectionOrientation"] = [1, 0, 0, 0]  # half a turn about x: north is up
    return state


def first_map(picture: Picture) -> str:
    """The colour map in which a picture of one channel opens, by its name; as in the preview."""
    return "gray" if picture.grey else DEFAULT_MAP


def is_volume(picture: Picture) -> bool:
    """Whether three planes and a volume say more than one plane with a slider: a dozen pressure levels do not."""
    shown = shown_axes(picture)
    if len(shown) < 3:
        return False
    sizes = [axis.length * dimension(axis)[0] for axis in shown]
    same_unit = len({dimension(axis)[1] for axis in shown}) == 1
    return shown[2].length >= 16 and same_unit and min(sizes) * 20 >= max(sizes)


def shown_axes(picture: Picture) -> tuple[PictureAxis, ...]:
    """The axes on the screen, x first: the last two or three that are space."""
    space = [axis for axis in picture.axes if axis.kind == "space"]
    # A form always has two; one from elsewhere may call its axes otherwise.
    return tuple(reversed((space if len(space) > 1 else picture.axes)[-3:]))


def _stretched(shown: tuple[PictureAxis, ...]) -> dict[str, float]:
    """By what the axes are multiplied on the screen whose unit is not that of x: their pixels become x's size.

    A micrometre and a detector's pixel have no proportion; the viewer would take the pixel for a metre.
    """
    step, unit = dimension(shown[0])
    others = {axis.name: dimension(axis) for axis in shown[1:]}
    return {name: step / other for name, (other, of) in others.items() if of != unit}


def dimension(axis: PictureAxis) -> tuple[float, str]:
    """Scale and unit of `axis` as the viewer reads them from the metadata: SI, without prefix."""
    unit, factor = _SI.get(axis.unit, ("", 1.0))
    return (axis.scale * factor, unit)


def layers_of(picture: Picture, source: str) -> list[dict[str, Any]]:
    """The picture as layers: one; or one for each channel, added as light."""
    channel = picture.channel_axis
    if channel is None:
        return [_layer(picture, source, name="picture", shader=shader(picture, COLOUR_MAPS[first_map(picture)]))]
    if picture.rgb:
        layer = _layer(picture, source, name="picture", shader=rgb_shader(picture), channel=(channel, "^"))
        layer["shaderControls"] = {}
        return [layer]
    layers = []
    for index in range(min(channel.length, MOST_CHANNELS)):
        known = picture.channels[index] if index < len(picture.channels) else {}
        layer = _layer(
            picture,
            source,
            name=f"channel {index}",
            shader=shader(picture, one_colour(str(known.get("color") or "ffffff"))),
            channel=(channel, "'"),
            window=window_of(known),
        )
        layer |= {
            "localDimensions": {f"{channel.name}'": list(dimension(channel))},
            "localPosition": [_at(channel, index)],
            "blend": "additive" if index else "default",
            "visible": bool(known.get("active", True)),
        }
        layers.append(layer)
    return layers


def window_of(channel: Json) -> tuple[float, float, float, float] | None:
    """Start, end, least and greatest value of a channel's `window`; None where it says nothing of use."""
    window = channel.get("window") or {}
    try:
        start, end, low, high = (float(window[name]) for name in ("start", "end", "min", "max"))
    except (KeyError, TypeError, ValueError):
        return None
    if not all(map(math.isfinite, (start, end, low, high))):
        return None
    if start == end:
        end = start + 1
    return (start, end, min(low, start), max(high, end))


# -- shaders -------------------------------------------------------------------------------------


def shader(picture: Picture, colours: ColourMap) -> str:
    """How the values of one channel become colours; missing ones stay transparent."""
    return (
        "#uicontrol invlerp contrast(clamp=true)\n"
        f"{colours.glsl}\n"
        "void main() {\n"
        f"{_skip_missing(picture, 'getDataValue()')}"
        f"  float t = {'1.0 - contrast()' if picture.upside_down else 'contrast()'};\n"
        "  if (VOLUME_RENDERING) emitRGBA(vec4(colours(t), t)); else emitRGB(colours(t));\n"
        "}\n"
    )


def rgb_shader(picture: Picture) -> str:
    """Three or four channels as they are: red, green, blue, and alpha as transparency."""
    windows = [window_of(each) or _whole_range(picture.shown_dtype) for each in picture.channels]
    names = "red", "green", "blue", "alpha"
    controls = "".join(
        f"#uicontrol invlerp {name}(channel={index}, clamp=true, range={_pair(window[:2], picture.shown_dtype)}, "
        f"window={_pair(window[2:], picture.shown_dtype)})\n"
        for index, (name, window) in enumerate(zip(names, windows, strict=False))
    )
    alpha = "alpha()" if len(windows) == 4 else "1.0"
    shown = f"  emitRGBA(vec4(red(), green(), blue(), {alpha}));\n"
    return f"{controls}void main() {{\n{_skip_missing_colour(picture)}{shown}}}\n"


def _skip_missing_colour(picture: Picture) -> str:
    """A pixel is missing where red, green and blue are: one band may well be 0."""
    bands = [f"getDataValue({band})" for band in range(3)]
    if picture.made_float32:
        tests: list[list[str | None]] = [[f"isnan({band})" for band in bands]]
    else:
        tests = [[_is_value(picture, band, missing) for band in bands] for missing in missing_values(picture)]
    return "".join(
        f"  if ({' && '.join(map(str, same))}) {{ emitTransparent(); return; }}\n" for same in tests if all(same)
    )


def _skip_missing(picture: Picture, value: str) -> str:
    lines = ""
    if picture.shown_dtype == "float32":
        lines += f"  if (isnan({value})) {{ emitTransparent(); return; }}\n"
    for missing in () if picture.made_float32 else missing_values(picture):
        if same := _is_value(picture, value, missing):
            lines += f"  if ({same}) {{ emitTransparent(); return; }}\n"
    return lines


def missing_values(picture: Picture) -> tuple[float | int, ...]:
    """Stored values of `picture` that mean "no data", NaN left out."""
    return numbers_meant(picture.attributes)


def numbers_meant(attributes: Json) -> tuple[float | int, ...]:
    """The values that an array's attributes say mean "no data", NaN left out."""
    said = (attributes.get(name) for name in ("_FillValue", "missing_value"))
    named = (_as_number(each) for value in said for each in (value if isinstance(value, list) else [value]))
    return tuple(dict.fromkeys(value for value in named if value is not None and math.isfinite(value)))


def _is_value(picture: Picture, value: str, wanted: float) -> str | None:
    """Whether the stored `value` is `wanted`, in GLSL; None where no pixel can have that value."""
    dtype = picture.shown_dtype
    if dtype.startswith("float"):
        return f"{value} == float({float(wanted)!r})"
    low, high, *_ = _whole_range(dtype)
    if wanted != int(wanted) or not low <= wanted <= high:
        return None
    return f"toRaw({value}) == {int(wanted)}{'u' if dtype.startswith('u') else ''}"


def _as_number(value: Any) -> float | int | None:
    """A CF attribute as a number; xarray writes those of floats as base64 of a little-endian double."""
    match value:
        case bool():
            return None
        case int() | float():
            return value
        case str():
            try:
                return float(struct.unpack("<d", base64.b64decode(value, validate=True))[0])
            except (ValueError, struct.error):
                return None
        case _:
            return None


# -- details -------------------------------------------------------------------------------------


def _layer(
    picture: Picture,
    source: str,
    *,
    name: str,
    shader: str,
    channel: tuple[PictureAxis, str] | None = None,
    window: tuple[float, float, float, float] | None = None,
) -> dict[str, Any]:
    layer: dict[str, Any] = {
        "type": "image",
        "name": name,
        "source": _source(picture, source, channel),
        "shader": shader,
        "opacity": 1,
        "volumeRendering": _projection(picture),
    }
    window = window or (window_of(picture.channels[0]) if picture.channels else None)
    if window is not None:
        start, end, low, high = (_stored(value, picture.shown_dtype) for value in window)
        layer["shaderControls"] = {"contrast": {"range": [start, end], "window": [low, high]}}
    return layer


def _projection(picture: Picture) -> str:
    """Of a volume, the brightest value along each line of sight: it shows something of whatever is in there."""
    if len(shown_axes(picture)) < 3:
        return "off"
    return "min" if picture.upside_down else "max"


def _source(picture: Picture, source: str, channel: tuple[PictureAxis, str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {"url": f"{source}|zarr3:"}
    if channel is not None:
        axis, mark = channel
        found["transform"] = {
            "outputDimensions": {
                (each.name + mark if each is axis else each.name): list(dimension(each)) for each in picture.axes
            }
        }
    return found


def _stored(value: float, dtype: str) -> float | int:
    """A bound as the viewer takes it: whole for whole-numbered dtypes."""
    return value if dtype.startswith("float") else round(value)


def _pair(values: tuple[float, ...], dtype: str) -> str:
    low, high = (_stored(value, dtype) for value in values)
    return f"[{low!r}, {high!r}]"


def _whole_range(dtype: str) -> tuple[float, float, float, float]:
    if dtype.startswith("float"):
        return (0.0, 1.0, 0.0, 1.0)
    bits = int(dtype.lstrip("uint"))
    low, high = (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (low, high, low, high)


def _at(axis: PictureAxis, index: float) -> float:
    """Where pixel `index` lies in the viewer, whose unit is the pixel and whose zero is the image's origin."""
    return axis.origin / axis.scale + index


def _middle(axis: PictureAxis) -> float:
    return _at(axis, axis.length // 2)
