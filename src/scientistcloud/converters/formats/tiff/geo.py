"""Where a GeoTIFF lies on Earth: coordinates of its pixel centres and its CRS as a CF grid mapping.

OGC GeoTIFF 1.1. The grid mapping is a variable `spatial_ref`, as GDAL and rioxarray write it; they read its
`crs_wkt` or, where this module knows no text for a code, its `spatial_ref` ("EPSG:2056").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile

from scientistcloud.omezarr.image import Array, Coordinate

_USER_DEFINED = 32767
_LONGEST = 10_000_000
_METRE, _FOOT, _US_FOOT = 9001, 9002, 9003
# CF units, and OME's unit, which has no US survey foot.
_LINEAR = {_METRE: ("m", "meter"), _FOOT: ("foot", "foot"), _US_FOOT: ("US_survey_foot", None)}
# Geographic code: name, datum, spheroid, semi-major axis, inverse flattening, codes of datum and spheroid.
_GEOGRAPHIC = {
    4326: ("WGS 84", "WGS_1984", "WGS 84", 6378137.0, 298.257223563, 6326, 7030),
    4269: ("NAD83", "North_American_Datum_1983", "GRS 1980", 6378137.0, 298.257222101, 6269, 7019),
    4258: (
        "ETRS89",
        "European_Terrestrial_Reference_System_1989",
        "GRS 1980",
        6378137.0,
        298.257222101,
        6258,
        7019,
    ),
}
# First and last code, zone of the first, hemisphere, geographic code.
_UTM = ((32601, 32660, 1, "N", 4326), (32701, 32760, 1, "S", 4326), (26901, 26923, 1, "N", 4269),
        (25828, 25838, 28, "N", 4258))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """What a GeoTIFF's tags say."""

    #: `x`, `y` (where the grid is not turned) and the scalar `spatial_ref`.
    coordinates: tuple[Coordinate, ...]
    #: Spacing, origin and unit by axis name.
    axes: Mapping[str, tuple[float, float, str | None]]
    warnings: tuple[str, ...] = ()


def place_of(page: tifffile.TiffPage) -> Place | None:
    """Of a page with GeoTIFF tags; None without."""
    keys = page.geotiff_tags
    if not keys:
        return None
    matrix = _matrix(keys)
    if matrix is None:
        return Place((), {}, ("the file has a CRS but does not say where its pixels lie",))
    x0, dx, rx, y0, ry, dy = matrix
    code, projected = _code(keys)
    units, unit = ("m", "meter") if projected else ("degrees", None)
    if projected and (linear := _integer(keys.get("ProjLinearUnitsGeoKey"))) not in (None, _USER_DEFINED):
        units, unit = _LINEAR.get(linear, ("", None))
    attributes = crs(code)
    warnings = []
    if code is None:
        cited = keys.get("PCSCitationGeoKey") or keys.get("GTCitationGeoKey") or "without a name"
        warnings.append(f"the CRS is not one of EPSG's ({cited}); its keys are kept as they are, in the metadata")
    if rx or ry:
        # Nothing else says where a pixel of a turned grid lies; of others x and y do, at each level.
        attributes["GeoTransform"] = " ".join(f"{value:.17g}" for value in matrix)
        warnings.append("the grid is turned against its CRS: x and y of a pixel follow from GeoTransform alone")
    mapping = Coordinate(name="spatial_ref", dims=(), values=np.array(0, "i8"), attributes=attributes)
    if rx or ry:
        return Place((mapping,), {}, tuple(warnings))
    if max(page.imagewidth, page.imagelength) > _LONGEST:
        return Place((mapping,), {}, tuple(warnings))
    names = ("projection_x_coordinate", "projection_y_coordinate") if projected else ("longitude", "latitude")
    coordinates, axes = [mapping], {}
    for axis, start, step, length, name, geographic in (
        ("x", x0, dx, page.imagewidth, names[0], "degrees_east"),
        ("y", y0, dy, page.imagelength, names[1], "degrees_north"),
    ):
        values: Array = start + (np.arange(length) + 0.5) * step
        said = {"axis": axis.upper(), "standard_name": name, "units": units if projected else geographic}
        coordinates.append(Coordinate(name=axis, dims=(axis,), values=values, attributes=said))
        axes[axis] = (abs(step), float(values[0]) if step > 0 else 0.0, unit)
    return Place(tuple(coordinates), axes, tuple(warnings))


def crs(code: int | None) -> dict[str, Any]:
    """Attributes of a CF grid mapping for an EPSG code: with a text for the common ones, else the code alone."""
    if code is None:
        return {}
    if code in _GEOGRAPHIC:
        text = _geographic(code)
        return {"grid_mapping_name": "latitude_longitude", **_ellipsoid(code), "crs_wkt": text, "spatial_ref": text}
    if code == 3857:
        text = _pseudo_mercator()
        return {**_ellipsoid(4326), "crs_wkt": text, "spatial_ref": text}
    for first, last, zone, hemisphere, base in _UTM:
        if first <= code <= last:
            return _utm(code, code - first + zone, hemisphere, base)
    return {"spatial_ref": f"EPSG:{code}"}


def _utm(code: int, zone: int, hemisphere: str, base: int) -> dict[str, Any]:
    meridian = 6.0 * zone - 183
    northing = 0.0 if hemisphere == "N" else 10_000_000.0
    text = (
        f'PROJCS["{_GEOGRAPHIC[base][0]} / UTM zone {zone}{hemisphere}",{_geographic(base)},'
        f'PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],'
        f'PARAMETER["central_meridian",{meridian:g}],PARAMETER["scale_factor",0.9996],'
        f'PARAMETER["false_easting",500000],PARAMETER["false_northing",{northing:.0f}],'
        f'UNIT["metre",1,AUTHORITY["EPSG","9001"]],AXIS["Easting",EAST],AXIS["Northing",NORTH],'
        f'AUTHORITY["EPSG","{code}"]]'
    )
    return {
        "grid_mapping_name": "transverse_mercator",
        "latitude_of_projection_origin": 0.0,
        "longitude_of_central_meridian": meridian,
        "scale_factor_at_central_meridian": 0.9996,
        "false_easting": 500_000.0,
        "false_northing": northing,
        **_ellipsoid(base),
        "crs_wkt": text,
        "spatial_ref": text,
    }


def _ellipsoid(code: int) -> dict[str, float]:
    _, _, _, axis, flattening, _, _ = _GEOGRAPHIC[code]
    return {"semi_major_axis": axis, "inverse_flattening": flattening, "longitude_of_prime_meridian": 0.0}


def _geographic(code: int) -> str:
    name, datum, spheroid, axis, flattening, datum_code, spheroid_code = _GEOGRAPHIC[code]
    return (
        f'GEOGCS["{name}",DATUM["{datum}",SPHEROID["{spheroid}",{axis:.0f},{flattening},'
        f'AUTHORITY["EPSG","{spheroid_code}"]],AUTHORITY["EPSG","{datum_code}"]],'
        'PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],'
        f'UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],AUTHORITY["EPSG","{code}"]]'
    )


def _pseudo_mercator() -> str:
    return (
        f'PROJCS["WGS 84 / Pseudo-Mercator",{_geographic(4326)},PROJECTION["Mercator_1SP"],'
        'PARAMETER["central_meridian",0],PARAMETER["scale_factor",1],PARAMETER["false_easting",0],'
        'PARAMETER["false_northing",0],UNIT["metre",1,AUTHORITY["EPSG","9001"]],AXIS["Easting",EAST],'
        'AXIS["Northing",NORTH],EXTENSION["PROJ4","+proj=merc +a=6378137 +b=6378137 +lat_ts=0 +lon_0=0 +x_0=0 '
        '+y_0=0 +k=1 +units=m +nadgrids=@null +wktext +no_defs"],AUTHORITY["EPSG","3857"]]'
    )


def _code(keys: Mapping[str, Any]) -> tuple[int | None, bool]:
    """The EPSG code of the CRS, and whether it is projected."""
    projected = _integer(keys.get("GTModelTypeGeoKey")) != 2
    code = _integer(keys.get("ProjectedCSTypeGeoKey" if projected else "GeographicTypeGeoKey"))
    return (None if code in (None, 0, _USER_DEFINED) else code), projected


def _matrix(keys: Mapping[str, Any]) -> tuple[float, float, float, float, float, float] | None:
    """GDAL's six numbers from the corner of the first pixel; None where the tags do not say."""
    transformation, scale, tie = (keys.get(f"Model{name}") for name in ("Transformation", "PixelScale", "Tiepoint"))
    if transformation is not None:
        (dx, rx, _, x0), (ry, dy, _, y0) = transformation[0], transformation[1]
    elif scale is not None and tie is not None and np.ndim(tie) == 1 and len(tie) == 6:
        dx, dy, rx, ry = scale[0], -scale[1], 0.0, 0.0
        x0, y0 = tie[3] - tie[0] * dx, tie[4] - tie[1] * dy
    else:
        return None
    if _integer(keys.get("GTRasterTypeGeoKey")) == 2:  # PixelIsPoint: the place given is the pixel's centre
        x0, y0 = x0 - (dx + rx) / 2, y0 - (ry + dy) / 2
    matrix = tuple(map(float, (x0, dx, rx, y0, ry, dy)))
    if not all(map(math.isfinite, matrix)) or not matrix[1] or not matrix[5]:
        return None
    return matrix[0], matrix[1], matrix[2], matrix[3], matrix[4], matrix[5]


def _integer(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
