"""What is written about the values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xarray.backends.zarr import FillValueCoder

from scientistcloud.errors import UnsupportedSource
from scientistcloud.omezarr.arrangement import arrange
from scientistcloud.omezarr.image import Axis, AxisKind, Coordinate, Image
from scientistcloud.omezarr.metadata import (
    cf_attributes,
    encoded_fill,
    json_value,
    keywords,
    limited,
    ome_axis,
    omero,
    scale_of,
    translation_of,
)
from scientistcloud.omezarr.pyramid import plan_levels
from scientistcloud.omezarr.statistics import Window
from scientistcloud.testing.arrays import image_of


def test_scale_and_translation_are_those_of_the_centres_of_pixels() -> None:
    axes = (
        Axis(name="t", kind=AxisKind.TIME, length=9, spacing=0.5, origin=3.0, unit="second"),
        Axis(name="y", kind=AxisKind.SPACE, length=1000, spacing=0.4, origin=10.0, unit="micrometer"),
        Axis(name="x", kind=AxisKind.SPACE, length=1000),
    )
    image = image_of(np.zeros((9, 1000, 1000), "u1"), axes)
    third = plan_levels(axes, (1, 256, 256))[2]

    assert third.factors == (1, 4, 4)
    assert scale_of(image, third) == [0.5, 1.6, 4.0]
    assert translation_of(image, third) == [3.0, 10.0 + 0.4 * 3 / 2, 1.5]


@pytest.mark.parametrize(
    ("kind", "unit", "wanted"),
    [
        (AxisKind.SPACE, "micrometer", {"name": "a", "type": "space", "unit": "micrometer"}),
        (AxisKind.SPACE, "degree", {"name": "a", "type": "space"}),
        (AxisKind.SPACE, "second", {"name": "a", "type": "space"}),
        (AxisKind.TIME, "second", {"name": "a", "type": "time", "unit": "second"}),
        (AxisKind.CUSTOM, "electronvolt", {"name": "a"}),
    ],
)
def test_only_units_that_viewers_know_are_given_to_axes(kind: AxisKind, unit: str, wanted: dict[str, str]) -> None:
    assert ome_axis(Axis(name="a", kind=kind, length=2, unit=unit)) == wanted


@settings(deadline=None)
@given(st.floats(width=64), st.sampled_from(["f4", "f8"]))
def test_fill_values_of_floats_are_what_xarray_decodes(value: float, dtype: str) -> None:
    encoded = encoded_fill(value, np.dtype(dtype))

    np.testing.assert_equal(FillValueCoder.decode(encoded, dtype), value)


@pytest.mark.parametrize(
    ("value", "dtype", "wanted"),
    [(np.nan, "i2", None), (70000, "u2", None), (-1, "u1", None), (0.5, "i4", None), (np.int16(-999), "i2", -999)],
)
def test_a_fill_value_that_no_pixel_can_have_is_not_written(value: Any, dtype: str, wanted: Any) -> None:
    assert encoded_fill(value, np.dtype(dtype)) == wanted


def test_attributes_become_json_whatever_they_hold() -> None:
    attributes = {
        "a": np.float32(1.5), "b": np.arange(3), "c": b"caf\xe9", "d": float("nan"), "e": [np.inf, None],
    }  # fmt: skip

    written = json.loads(json.dumps(json_value(attributes), allow_nan=False))

    assert written["a"] == 1.5
    assert written["b"] == [0, 1, 2]
    assert written["c"] == "caf�"
    assert written["d"] == "NaN"
    assert written["e"] == ["Infinity", None]


def test_coordinates_beside_the_axes_are_named_and_helpers_are_not() -> None:
    values = np.zeros((4, 6), "f4")
    image = image_of(
        values,
        attributes={"grid_mapping": "crs", "coordinates": "lat lon gone", "units": "K"},
        coordinates=(
            Coordinate(name="y", dims=("y",), values=np.arange(4)),
            Coordinate(name="lat", dims=("y", "x"), values=values, attributes={"bounds": "lat_bnds"}),
            Coordinate(name="lat_bnds", dims=("y", "x", "nv"), values=np.zeros((4, 6, 4))),
            Coordinate(name="crs", dims=(), values=np.array(0)),
            Coordinate(name="height", dims=(), values=np.array(2.0)),
        ),
    )

    (group,), warnings = arrange([image])

    assert cf_attributes(image, group) == {"grid_mapping": "crs", "units": "K", "coordinates": "lat height"}
    assert warnings == []


def test_variables_of_the_same_axes_stand_together_and_others_are_images_of_their_own() -> None:
    def named(name: str, shape: tuple[int, ...], axes: str) -> Image:
        return image_of(np.zeros(shape, "f4"), axes, name=name)

    groups, _ = arrange(
        [
            named("z", (2, 3, 40, 50), "tcyx"),
            named("u", (40, 50), "yx"),
            named("w", (41, 50), "yx"),
            named("z", (40, 50), "yx"),
        ]
    )

    assert [(group.path, [member.image.name for member in group.members]) for group in groups] == [
        ("0", ["z", "u"]), ("1", ["w"]), ("2", ["z"]),
    ]  # fmt: skip


def test_coordinates_of_the_same_name_and_other_values_keep_images_apart() -> None:
    def at(origin: int) -> Image:
        coordinate = Coordinate(name="x", dims=("x",), values=np.arange(5) + origin)
        return image_of(np.zeros((4, 5)), name=f"v{origin}", coordinates=(coordinate,))

    groups, _ = arrange([at(0), at(7)])

    assert len(groups) == 2


@pytest.mark.parametrize("axes", ["x", "tt", "yxt", "ctyx", "zzyx", "yxc", "tecyxq"])
def test_axes_that_ngff_has_no_place_for_are_refused_by_name(axes: str) -> None:
    image = image_of(np.zeros((2,) * len(axes)), axes, source_name="/entry/data")

    with pytest.raises(UnsupportedSource, match="/entry/data has the axes"):
        arrange([image])


def test_texts_and_misfits_among_coordinates_are_left_out_with_a_word() -> None:
    image = image_of(
        np.zeros((4, 5)),
        coordinates=(
            Coordinate(name="label", dims=("x",), values=np.array(list("abcde"))),
            Coordinate(name="x", dims=("x",), values=np.arange(3)),
        ),
    )

    (group,), warnings = arrange([image])

    assert "label" not in group.coordinates
    assert len(warnings) == 2
    assert "label holds <U1" in warnings[0]


def test_channels_are_shown_in_colours_and_single_ones_in_white() -> None:
    window = Window(0, 1, 0, 1)
    rgb = omero(image_of(np.zeros((3, 4, 4), "u1"), "cyx", rgb=True), [window] * 3)
    one = omero(image_of(np.zeros((9, 4, 4), "u1"), "zyx"), [window])

    assert [channel["color"] for channel in rgb["channels"]] == ["FF0000", "00FF00", "0000FF"]
    assert rgb["rdefs"]["model"] == "color"
    assert [channel["color"] for channel in one["channels"]] == ["FFFFFF"]
    assert one["rdefs"] == {"model": "greyscale", "defaultZ": 4, "defaultT": 0}


def test_metadata_of_the_source_is_kept_to_a_size_and_says_what_is_missing() -> None:
    kept = limited({"small": 1, "ome_xml": "x" * 100_000, "large": "y" * 60_000}, max_bytes=65_536)

    assert set(kept) == {"small", "large", "left_out"}
    assert kept["left_out"] == ["ome_xml"]


def test_keywords_are_the_texts_of_the_metadata_each_once_without_numbers_and_identifiers() -> None:
    metadata = {
        "tags": {
            "Make": "Zeiss",
            "Software": "Zeiss",
            "Width": 57,
            "BitsPerSample": "8",
            "When": "2019:09:17 15:44",
        },
        "attributes": [{"title": "MgB2  PDOS\n 43.37 g"}, "no"],
        "id": "urn:uuid:bebd2be7-8253-4b90-be93-4df567ffe1be",
        "arrays": {"/entry/data": "float64 (2, 3)"},
    }

    assert keywords(metadata) == "Zeiss\nMgB2 PDOS 43.37 g"


def test_keywords_of_xml_are_its_attributes_and_texts() -> None:
    ome = '<OME xmlns="http://x.org/2016"><Channel Name="DAPI" ID="1"/><Text>a mouse\'s heart</Text></OME>'

    assert keywords({"tags": {"ImageDescription": ome}}) == "DAPI\na mouse's heart"


def test_keywords_keep_to_a_size() -> None:
    found = keywords({"notes": [f"word {n} {'x' * 500}" for n in range(100)]})

    assert 1500 < len(found) <= 2000
    assert max(map(len, found.splitlines())) == 200
