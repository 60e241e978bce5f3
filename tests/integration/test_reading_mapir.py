"""Photographs of MAPIR's Survey3 cameras.

No such photograph under a licence that would allow to keep it here was found. These are written by Pillow with the
EXIF that the cameras write: Make ``MAPIR``, Model ``Survey3W_OCN`` and its kin; their pixels are made up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr
from click.testing import CliRunner
from photograph_files import photograph, scene
from valid_store import assert_valid

from scientistcloud.cli import group
from scientistcloud.converters.contract import ReadOptions
from scientistcloud.converters.registry import open_source
from scientistcloud.errors import InvalidParameters, UnsupportedSource
from scientistcloud.omezarr.image import Array, Source
from scientistcloud.tasks.conversion import convert
from scientistcloud.testing.converters import whole


def mapir(path: Path, filter_name: str, pixels: Any = None, **said: Any) -> Array:
    return photograph(path, pixels, make="MAPIR", model=f"Survey3W_{filter_name}", **said)


def look(path: Path, sensor: str = "auto", **options: Any) -> tuple[Source, list[Array]]:
    reader = open_source(path, sensor=sensor, options=ReadOptions(**options))
    try:
        source = reader.describe()
        return source, [reader.read(number, whole(image)) for number, image in enumerate(source.images)]
    finally:
        reader.close()


def labels(source: Source) -> list[str]:
    return [channel.label for channel in source.images[0].channels]


def ratio(one: Array, other: Array) -> Array:
    """(a − b)/(a + b) in the precision of doubles."""
    a, b = one.astype(float), other.astype(float)
    with np.errstate(invalid="ignore"):
        made: Array = (a - b) / (a + b)
    return made


@pytest.mark.parametrize(
    ("name", "bands", "index", "samples"),
    [
        ("RGN", ["red 660 nm", "green 550 nm", "NIR 850 nm"], "ndvi", (2, 0)),
        ("OCN", ["orange 615 nm", "cyan 490 nm", "NIR 808 nm"], "nd_nir808_orange615", (2, 0)),
        ("NGB", ["NIR 850 nm", "green 550 nm", "blue 475 nm"], "nd_nir850_green550", (0, 1)),
    ],
)
def test_the_model_says_which_bands_there_are(
    name: str, bands: list[str], index: str, samples: tuple[int, int], tmp_path: Path
) -> None:
    stored = mapir(tmp_path / "a.jpg", name)

    source, (pixels, made) = look(tmp_path / "a.jpg")

    assert source.sensor == "MAPIR"
    assert labels(source) == bands
    np.testing.assert_array_equal(pixels, stored.transpose(2, 0, 1))
    assert [image.name for image in source.images] == ["image", index]
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, ratio(stored[..., samples[0]], stored[..., samples[1]]), rtol=1e-6)


@pytest.mark.parametrize("name", ["OCN", "NGB"])
def test_without_red_there_is_no_ndvi(name: str, tmp_path: Path) -> None:
    mapir(tmp_path / "a.jpg", name)

    source, _ = look(tmp_path / "a.jpg")

    assert "ndvi" not in repr(source.images).lower()


def test_an_index_says_that_nothing_calibrated_it(tmp_path: Path) -> None:
    mapir(tmp_path / "a.jpg", "RGN", place=True)

    source, _ = look(tmp_path / "a.jpg")

    said = source.images[1].attributes
    assert said["calibration"] == "uncalibrated"
    assert said["long_name"] == ("NDVI = (NIR 850 nm − red 660 nm)/(NIR 850 nm + red 660 nm), uncalibrated")
    assert said["gps_latitude"] == -12.51
    assert "without a calibration target, indices are uncalibrated" in source.warnings


def test_where_no_light_was_measured_the_index_is_not_a_number(tmp_path: Path) -> None:
    pixels = scene()
    pixels[:10, :10] = 0
    pixels[20, 20] = 0, 9, 7
    mapir(tmp_path / "a.png", "RGN", pixels)

    _, (_, ndvi) = look(tmp_path / "a.png")

    assert np.isnan(ndvi[:10, :10]).all()
    assert np.isnan(ndvi).sum() == 100
    assert ndvi[20, 20] == 1


@pytest.mark.parametrize(("name", "band"), [("RE", "red edge 725 nm"), ("NIR", "NIR 850 nm")])
def test_a_filter_of_one_band_gives_one_band_and_no_index(name: str, band: str, tmp_path: Path) -> None:
    stored = mapir(tmp_path / "a.jpg", name)

    source, (pixels,) = look(tmp_path / "a.jpg")

    np.testing.assert_array_equal(pixels, stored[..., 0])
    assert f"the filter {name} makes the samples {band}" in source.warnings


@pytest.mark.parametrize("model", ["Survey3W_XYZ", "Survey4_RGN", "Survey3W", ""])
def test_a_model_that_is_not_known_is_asked_for_and_never_guessed(model: str, tmp_path: Path) -> None:
    stored = photograph(tmp_path / "a.jpg", make="MAPIR", model=model)

    with pytest.raises(
        InvalidParameters, match=rf"a.jpg was taken by the camera MAPIR ?{model}, .*as bands: RGN, OCN"
    ):
        look(tmp_path / "a.jpg")
    source, (_, made) = look(tmp_path / "a.jpg", bands="ngb")

    assert labels(source)[0] == "NIR 850 nm"
    np.testing.assert_allclose(made, ratio(stored[..., 0], stored[..., 1]), rtol=1e-6)


def test_bands_that_do_not_exist_are_the_callers_mistake(tmp_path: Path) -> None:
    mapir(tmp_path / "a.jpg", "RGN")

    with pytest.raises(InvalidParameters, match="no MAPIR filter 'XYZ'; it can be RGN, OCN"):
        look(tmp_path / "a.jpg", bands="XYZ")


def test_a_photograph_without_a_camera_is_mapirs_where_somebody_says_so(tmp_path: Path) -> None:
    photograph(tmp_path / "a.png")

    with pytest.raises(InvalidParameters, match="a camera that it does not name"):
        look(tmp_path / "a.png", "MAPIR")
    assert labels(look(tmp_path / "a.png", "MAPIR", bands="OCN")[0])[0] == "orange 615 nm"
    assert look(tmp_path / "a.png")[0].sensor == "RGB"


def test_another_camera_contradicts_who_says_mapir_and_the_other_way_round(tmp_path: Path) -> None:
    photograph(tmp_path / "dji.jpg", make="DJI", model="FC6310")
    mapir(tmp_path / "mapir.jpg", "RGN")

    with pytest.raises(UnsupportedSource, match=r"dji.jpg was said to be MAPIR, .*DJI FC6310: it is RGB"):
        look(tmp_path / "dji.jpg", "MAPIR")
    with pytest.raises(UnsupportedSource, match=r"mapir.jpg was said to be RGB, but it is MAPIR"):
        look(tmp_path / "mapir.jpg", "RGB")


def test_a_survey_converts_each_photograph_with_its_index(tmp_path: Path) -> None:
    folder = tmp_path / "survey"
    for number, name in enumerate(["RGN", "RGN", "NGB"]):
        mapir(folder / f"2024_{number}.jpg", name, scene(seed=number), orientation=6 if number == 1 else 1)
    photograph(folder / "target.jpg", make="DJI", model="FC6310")

    form = convert(folder, tmp_path / "a.ome.zarr", preview=tmp_path / "a.webp")

    assert form["sensor"] == "MAPIR"
    assert [(image["group"], image["variable"]) for image in form["images"]] == [
        ("0", "2024_0"), ("1", "2024_1"), ("2", "2024_2"),
        ("0", "2024_0_ndvi"), ("1", "2024_1_ndvi"), ("2", "2024_2_nd_nir850_green550"),
    ]  # fmt: skip
    assert "left out, because their camera makes them no MAPIR: target.jpg" in form["warnings"]
    assert_valid(tmp_path / "a.ome.zarr")
    root: Any = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    bands, ndvi = root["1/0/2024_1"][...], root["1/0/2024_1_ndvi"][...]
    np.testing.assert_allclose(ndvi, ratio(bands[2], bands[0]), rtol=1e-6)
    with xarray.open_datatree(tmp_path / "a.ome.zarr", engine="zarr") as tree:
        assert tree["0/0/2024_0_ndvi"].attrs["calibration"] == "uncalibrated"


def test_inspect_and_convert_take_the_bands(tmp_path: Path) -> None:
    photograph(tmp_path / "a.jpg", make="MAPIR", model="Kernel")
    run = CliRunner()

    asked = run.invoke(group, ["inspect", str(tmp_path / "a.jpg"), "--bands", "RGN"])
    made = run.invoke(
        group, ["convert", str(tmp_path / "a.jpg"), str(tmp_path / "a.ome.zarr"), "--bands", "RGN", "--json"]
    )

    assert "also    ndvi from a.jpg, ndvi: y 48 × x 64, float32" in asked.output
    assert [image["variable"] for image in json.loads(made.output)["images"]] == ["image", "ndvi"]
    kept = json.loads((tmp_path / "a.ome.zarr/zarr.json").read_bytes())["attributes"]["scientistcloud"]
    assert kept["options"]["bands"] == "RGN"
