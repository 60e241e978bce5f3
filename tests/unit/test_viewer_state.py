"""The state in which the viewer opens, from metadata alone."""

from __future__ import annotations

import base64
import re
import struct
from dataclasses import replace
from typing import Any

import pytest

from scientistcloud.portal.colours import COLOUR_MAPS
from scientistcloud.portal.forms import Picture, PictureAxis
from scientistcloud.portal.viewer_state import missing_values, state_of

SOURCE = "http://127.0.0.1:8080/view-data/u/@1/image/"


def axis(
    name: str, length: int, *, kind: str = "space", scale: float = 1, origin: float = 0, unit: str = ""
) -> PictureAxis:
    return PictureAxis(name=name, kind=kind, length=length, scale=scale, origin=origin, unit=unit)


def picture(*axes: PictureAxis, dtype: str = "uint16", **more: Any) -> Picture:
    window = {"start": 10.0, "end": 900.0, "min": 0.0, "max": 1000.0}
    channels = more.pop("channels", ({"label": "one", "color": "FFFFFF", "window": window},))
    return Picture(
        name="image", label="image", group="", entry=0, axes=axes, dtype=dtype, levels=("0/image",),
        channels=channels, rgb=more.pop("rgb", False), **more,
    )  # fmt: skip


FLAT = picture(axis("y", 600, scale=0.5, unit="micrometer"), axis("x", 900, scale=0.5, unit="micrometer"))
VOLUME = picture(
    *(axis(name, n, unit="micrometer", scale=s) for name, n, s in (("z", 96, 2), ("y", 160, 1), ("x", 200, 1)))
)


def test_a_plane_opens_in_the_middle_with_its_units() -> None:
    state = state_of(FLAT, SOURCE)

    assert state["layout"] == "xy"
    assert state["dimensions"] == {"x": [pytest.approx(5e-7), "m"], "y": [pytest.approx(5e-7), "m"]}
    assert state["displayDimensions"] == ["x", "y"]
    assert state["position"] == [450, 300]
    assert state["layers"][0]["source"] == {"url": f"{SOURCE}|zarr3:"}


def test_a_plane_fits_its_panel() -> None:
    # 900 x 600 pixels in a panel of 900 x 640: the width decides, with a little room.
    assert state_of(FLAT, SOURCE)["crossSectionScale"] == pytest.approx(1.05)


def test_a_volume_opens_as_three_planes_and_a_projection() -> None:
    state = state_of(VOLUME, SOURCE)

    assert state["layout"] == "4panel"
    assert state["displayDimensions"] == ["x", "y", "z"]
    assert state["dimensions"]["z"] == [pytest.approx(2e-6), "m"]
    assert state["layers"][0]["volumeRendering"] == "max"


def test_a_dozen_pressure_levels_are_no_volume() -> None:
    levels = picture(axis("level", 12), axis("latitude", 241, scale=0.75), axis("longitude", 480, scale=0.75))

    assert state_of(levels, SOURCE)["layout"] == "xy"


def test_axes_of_different_units_are_no_volume() -> None:
    mixed = picture(axis("depth", 100, unit="meter"), axis("latitude", 100), axis("longitude", 100))

    assert state_of(mixed, SOURCE)["layout"] == "xy"


def test_pixels_of_axes_whose_units_differ_are_shown_equal_in_size() -> None:
    scan = picture(axis("x", 80, scale=0.5, unit="micrometer"), axis("det_y", 96), axis("det_x", 96))
    state = state_of(scan, SOURCE)

    assert state["relativeDisplayScales"] == {"x": pytest.approx(2e6)}  # half a micrometre, as large as 1
    assert state["crossSectionScale"] == pytest.approx(1.05 * 96 / 640)
    assert state_of(VOLUME, SOURCE)["relativeDisplayScales"] == {}


def test_time_is_moved_through_and_not_shown() -> None:
    film = picture(axis("t", 7, kind="time", scale=0.5, origin=10, unit="second"), *VOLUME.axes)
    state = state_of(film, SOURCE)

    assert state["displayDimensions"] == ["x", "y", "z"]
    assert list(state["dimensions"]) == ["x", "y", "z", "t"]
    assert state["dimensions"]["t"] == [0.5, "s"]
    # Positions are in pixels from the origin of the unit: the middle frame, 3, lies 10 s / 0.5 s = 20 behind it.
    assert state["position"] == [100, 80, 48, 23]


@pytest.mark.parametrize("unit", ["", "angstrom", "inch", "kilometer", "nanometer"])
def test_every_unit_that_a_form_may_hold_is_known_to_the_viewer(unit: str) -> None:
    step, name = state_of(picture(axis("y", 9, unit=unit), axis("x", 9, unit=unit)), SOURCE)["dimensions"]["x"]

    assert name in ("", "m")
    assert step > 0


def test_the_contrast_is_the_stored_window_whole_for_whole_numbers() -> None:
    window = {"start": 10.4, "end": 900.6, "min": 0.0, "max": 1000.0}
    channels = ({"window": window},)
    whole = state_of(replace(FLAT, channels=channels), SOURCE)["layers"][0]["shaderControls"]["contrast"]
    real = state_of(replace(FLAT, channels=channels, dtype="float32"), SOURCE)["layers"][0]["shaderControls"][
        "contrast"
    ]

    assert whole == {"range": [10, 901], "window": [0, 1000]}
    assert real == {"range": [10.4, 900.6], "window": [0, 1000]}


@pytest.mark.parametrize("window", [{}, {"start": float("nan"), "end": 1, "min": 0, "max": 1}, {"start": "a"}])
def test_a_window_that_says_nothing_leaves_the_contrast_to_the_viewer(window: dict[str, Any]) -> None:
    assert "shaderControls" not in state_of(replace(FLAT, channels=({"window": window},)), SOURCE)["layers"][0]


def test_red_green_and_blue_are_channels_of_one_layer() -> None:
    channels = tuple(
        {"color": color, "window": {"start": 0, "end": 255, "min": 0, "max": 255}}
        for color in ("FF0000", "00FF00", "0000FF")
    )
    photo = picture(axis("c", 3, kind="channel"), *FLAT.axes, dtype="uint8", channels=channels, rgb=True)
    (layer,) = state_of(photo, SOURCE)["layers"]

    assert list(layer["source"]["transform"]["outputDimensions"]) == ["c^", "y", "x"]
    assert re.findall(r"invlerp (\w+)\(channel=(\d)", layer["shader"]) == [
        ("red", "0"),
        ("green", "1"),
        ("blue", "2"),
    ]
    assert "emitRGBA(vec4(red(), green(), blue(), 1.0))" in layer["shader"]


def test_alpha_is_shown_as_transparency() -> None:
    channels = tuple({"color": color} for color in ("FF0000", "00FF00", "0000FF", "FFFFFF"))
    photo = picture(axis("c", 4, kind="channel"), *FLAT.axes, dtype="uint8", channels=channels, rgb=True)

    assert "blue(), alpha()" in state_of(photo, SOURCE)["layers"][0]["shader"]


def test_other_channels_are_layers_added_as_light_each_in_its_colour() -> None:
    channels = tuple({"label": name, "color": color} for name, color in (("DAPI", "4488FF"), ("GFP", "00FF00")))
    stained = picture(axis("c", 2, kind="channel"), *FLAT.axes, channels=channels)
    layers = state_of(stained, SOURCE)["layers"]

    assert [layer["localPosition"] for layer in layers] == [[0], [1]]
    assert [layer["blend"] for layer in layers] == ["default", "additive"]
    assert "vec3(0.2667, 0.5333, 1.0000)" in layers[0]["shader"]
    assert "vec3(0.0000, 1.0000, 0.0000)" in layers[1]["shader"]


@pytest.mark.parametrize(
    ("dtype", "missing", "literal"),
    [
        ("uint16", 65535, "65535u"),
        ("int16", -32768, "-32768"),
        ("float32", 65535, "float(65535.0)"),
    ],
)
def test_what_is_missing_is_transparent(dtype: str, missing: int, literal: str) -> None:
    filled = replace(FLAT, dtype=dtype, attributes={"_FillValue": missing})

    assert f"== {literal}) {{ emitTransparent(); return; }}" in state_of(filled, SOURCE)["layers"][0]["shader"]


@pytest.mark.parametrize("missing", [-1, 65536, 0.5])
def test_a_fill_value_that_no_pixel_can_have_hides_none(missing: float) -> None:
    filled = replace(FLAT, dtype="uint16", attributes={"missing_value": missing})

    assert "emitTransparent" not in state_of(filled, SOURCE)["layers"][0]["shader"]


def test_a_fill_value_as_xarray_writes_it_is_understood() -> None:
    encoded = base64.b64encode(struct.pack("<d", -9999.0)).decode()
    filled = replace(FLAT, dtype="float32", attributes={"_FillValue": encoded, "missing_value": float("nan")})
    shader = state_of(filled, SOURCE)["layers"][0]["shader"]

    assert "float(-9999.0)" in shader
    assert "isnan" in shader


def test_values_packed_upside_down_are_shown_the_right_way_up() -> None:
    packed = replace(VOLUME, attributes={"scale_factor": -1.5})
    layer = state_of(packed, SOURCE)["layers"][0]

    assert "1.0 - contrast()" in layer["shader"]
    assert layer["volumeRendering"] == "min"


def test_north_is_up() -> None:
    map_ = replace(FLAT, northward=True)

    assert state_of(map_, SOURCE)["crossSectionOrientation"] == [1, 0, 0, 0]
    assert "crossSectionOrientation" not in state_of(FLAT, SOURCE)


@pytest.mark.parametrize("name", sorted(COLOUR_MAPS))
def test_a_colour_map_begins_and_ends_with_its_stops(name: str) -> None:
    colours = COLOUR_MAPS[name]

    assert len(colours.stops) >= 2
    assert colours.glsl.count("mix(") == len(colours.stops) - 1
    assert colours.glsl.startswith("vec3 colours(float t)")


def test_what_the_viewer_lacks_is_said_in_words() -> None:
    why = replace(FLAT, dtype="string").why_not

    assert why is not None
    assert "string" in why


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "uint64", "bool", "complex64"])
def test_what_the_viewer_cannot_read_is_shown_as_float32(dtype: str) -> None:
    window = {"start": 0.25, "end": 0.75, "min": 0.0, "max": 1.0}
    attributes = {"_FillValue": -999, "missing_value": [-998, 5]}
    shown = replace(FLAT, dtype=dtype, channels=({"window": window},), attributes=attributes)

    layer = state_of(shown, SOURCE)["layers"][0]

    assert shown.why_not is None
    assert layer["shaderControls"]["contrast"]["range"] == [0.25, 0.75]
    # What is missing comes as NaN.
    assert layer["shader"].count("emitTransparent") == 1
    assert "isnan(getDataValue())" in layer["shader"]
    assert missing_values(shown) == (-999, -998, 5)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int8", "int16", "int32", "float32"])
def test_what_the_viewer_reads_needs_no_words(dtype: str) -> None:
    assert replace(FLAT, dtype=dtype).why_not is None
