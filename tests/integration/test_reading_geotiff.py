"""Where GeoTIFFs lie on Earth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from scientistcloud.converters.formats.tiff.geo import crs
from scientistcloud.converters.registry import open_source
from scientistcloud.omezarr.image import Coordinate, Image


def image_of(path: Path) -> Image:
    reader = open_source(path)
    try:
        return reader.describe().images[0]
    finally:
        reader.close()


def coordinate(image: Image, name: str) -> Coordinate:
    return next(each for each in image.coordinates if each.name == name)


def write(path: Path, *, scale: Any = (2.0, 3.0, 0.0), tie: Any = (0, 0, 0, 100, 200, 0), keys: Any = ()) -> Path:
    """A GeoTIFF of 4 × 5 pixels: `keys` are pairs of a GeoKey and its value."""
    listed = sorted(keys)
    directory = [1, 1, 0, len(listed), *[number for key, value in listed for number in (key, 0, 1, value)]]
    tags: list[Any] = [(34735, "H", len(directory), directory, True)]
    if scale:
        tags += [(33550, "d", 3, scale, True), (33922, "d", len(tie), tie, True)]
    tifffile.imwrite(path, np.zeros((4, 5), np.uint8), extratags=tags, metadata=None)
    return path


PROJECTED, AREA, POINT, UTM_17N = (1024, 1), (1025, 1), (1025, 2), (3072, 32617)


def test_the_coordinates_of_a_real_orthomosaic_are_those_of_pixel_centres(data: Path) -> None:
    image = image_of(data / "geotiff/neon_osbs_029.tif")

    x, y = coordinate(image, "x"), coordinate(image, "y")

    # Upper left corner (404211.9, 3285142.9), pixels of 0.1 m: tags 33922 and 33550 of the file.
    assert x.values[:2] == pytest.approx([404211.95, 404212.05], abs=1e-6)
    assert y.values[:2] == pytest.approx([3285142.85, 3285142.75], abs=1e-6)
    assert (x.values.shape, y.values.shape) == ((400,), (400,))
    assert x.attributes["standard_name"] == "projection_x_coordinate"
    assert x.attributes["units"] == "m"


def test_spacing_is_positive_where_y_falls_and_the_origin_is_left_to_the_coordinate(data: Path) -> None:
    _, y, x = image_of(data / "geotiff/uav_australia_18mm.tif").axes

    assert (y.spacing, y.origin, y.unit) == (0.018, 0.0, "meter")
    assert (x.spacing, x.unit) == (0.018, "meter")
    assert x.origin == pytest.approx(278966.322 + 0.009)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("tiff/landsat_rgb.tif", 32618),
        ("geotiff/neon_osbs_029.tif", 32617),
        ("geotiff/uav_australia_18mm.tif", 32753),
    ],
)
def test_the_crs_is_a_grid_mapping_that_names_its_epsg_code(data: Path, name: str, code: int) -> None:
    image = image_of(data / name)

    mapping = coordinate(image, "spatial_ref")

    assert image.attributes["grid_mapping"] == "spatial_ref"
    assert mapping.dims == ()
    assert mapping.attributes["crs_wkt"].endswith(f'AUTHORITY["EPSG","{code}"]]')
    assert mapping.attributes["grid_mapping_name"] == "transverse_mercator"
    assert "GeoTransform" not in mapping.attributes  # x and y say it, and stay true at coarser levels


def test_the_landsat_scene_lies_where_its_tags_say(data: Path) -> None:
    image = image_of(data / "tiff/landsat_rgb.tif")

    x, y = coordinate(image, "x").values, coordinate(image, "y").values

    # The bounds that rasterio gives in its own tests of RGB.byte.tif.
    half_x, half_y = (x[1] - x[0]) / 2, (y[0] - y[1]) / 2
    bounds = [x[0] - half_x, y[-1] - half_y, x[-1] + half_x, y[0] + half_y]
    assert bounds == pytest.approx([101985.0, 2611485.0, 339315.0, 2826915.0], abs=1e-6)


@pytest.mark.parametrize(("name", "value"), [("uav_australia_18mm", 0), ("neon_osbs_029", 255)])
def test_no_data_is_what_the_tag_says(data: Path, name: str, value: int) -> None:
    image = image_of(data / f"geotiff/{name}.tif")

    assert image.fill == (value,)
    assert image.attributes["_FillValue"] == value
    assert image.attributes["_FillValue"].dtype == np.uint8


def test_a_pixel_that_is_an_area_is_half_a_pixel_away_from_its_corner(tmp_path: Path) -> None:
    image = image_of(write(tmp_path / "area.tif", keys=[PROJECTED, AREA, UTM_17N]))

    assert coordinate(image, "x").values.tolist() == [101, 103, 105, 107, 109]
    assert coordinate(image, "y").values.tolist() == [198.5, 195.5, 192.5, 189.5]


def test_a_pixel_that_is_a_point_lies_where_the_tie_point_says(tmp_path: Path) -> None:
    image = image_of(write(tmp_path / "point.tif", keys=[PROJECTED, POINT, UTM_17N]))

    assert coordinate(image, "x").values.tolist() == [100, 102, 104, 106, 108]
    assert coordinate(image, "y").values.tolist() == [200, 197, 194, 191]


def test_a_tie_point_may_lie_anywhere_in_the_picture(tmp_path: Path) -> None:
    image = image_of(write(tmp_path / "tie.tif", tie=(2, 1, 0, 100, 200, 0), keys=[PROJECTED, POINT, UTM_17N]))

    assert coordinate(image, "x").values[2] == 100
    assert coordinate(image, "y").values[1] == 200


def test_degrees_are_no_unit_of_ome_but_of_the_coordinates(tmp_path: Path) -> None:
    image = image_of(write(tmp_path / "wgs84.tif", scale=(0.5, 0.25, 0), keys=[(1024, 2), AREA, (2048, 4326)]))

    assert [(axis.spacing, axis.unit) for axis in image.axes] == [(0.25, None), (0.5, None)]
    assert coordinate(image, "x").attributes["units"] == "degrees_east"
    assert coordinate(image, "spatial_ref").attributes["grid_mapping_name"] == "latitude_longitude"


def test_feet_are_feet(tmp_path: Path) -> None:
    path = write(tmp_path / "feet.tif", keys=[PROJECTED, AREA, (3072, 2263), (3076, 9002)])

    assert [axis.unit for axis in image_of(path).axes] == ["foot", "foot"]


def test_a_code_without_a_text_is_named(tmp_path: Path) -> None:
    image = image_of(write(tmp_path / "swiss.tif", keys=[PROJECTED, AREA, (3072, 2056)]))

    assert coordinate(image, "spatial_ref").attributes["spatial_ref"] == "EPSG:2056"


def test_a_crs_without_a_code_is_said(tmp_path: Path) -> None:
    reader = open_source(write(tmp_path / "own.tif", keys=[PROJECTED, AREA, (3072, 32767)]))
    source = reader.describe()
    reader.close()

    assert any("not one of EPSG's" in warning for warning in source.warnings)
    assert source.metadata["geokeys"]["ProjectedCSTypeGeoKey"] == 32767


def test_a_turned_grid_has_no_coordinates_along_its_axes(tmp_path: Path) -> None:
    path = tmp_path / "turned.tif"
    matrix = [2, 1, 0, 100, 1, -2, 0, 200, 0, 0, 0, 0, 0, 0, 0, 1]
    keys = [1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32617]
    tags: Any = [(34735, "H", len(keys), keys, True), (34264, "d", 16, matrix, True)]
    tifffile.imwrite(path, np.zeros((4, 5), np.uint8), extratags=tags, metadata=None)

    image = image_of(path)

    assert [each.name for each in image.coordinates] == ["spatial_ref"]
    assert image.coordinates[0].attributes["GeoTransform"] == "100 2 1 200 1 -2"
    assert [axis.spacing for axis in image.axes] == [None, None]


def test_a_no_data_value_that_no_pixel_can_have_is_left_out_and_said(tmp_path: Path) -> None:
    path = tmp_path / "nodata.tif"
    tags: Any = [(42113, "s", 6, "-9999", True)]
    tifffile.imwrite(path, np.zeros((4, 5), np.uint8), extratags=tags, metadata=None)
    reader = open_source(path)
    source = reader.describe()
    reader.close()

    assert source.images[0].fill == ()
    assert any("-9999" in warning for warning in source.warnings)


def test_the_zones_of_utm_have_their_central_meridians() -> None:
    # EPSG registry: zone 1 lies at 177° W, zone 31 at 3° E, zone 60 at 177° E.
    assert crs(32601)["longitude_of_central_meridian"] == -177
    assert crs(32631)["longitude_of_central_meridian"] == 3
    assert crs(32760)["longitude_of_central_meridian"] == 177
    assert crs(25832)["longitude_of_central_meridian"] == 9
    assert (crs(32631)["false_northing"], crs(32731)["false_northing"]) == (0, 10_000_000)
