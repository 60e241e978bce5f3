"""What the dimensions of a variable are by CF: time, space, or something else."""

from __future__ import annotations

from scientistcloud.converters import roles
from scientistcloud.converters.formats.netcdf.variables import Variable
from scientistcloud.converters.roles import OTHER_NAMES, TIME_NAMES, Meaning

_OTHER_STANDARD = ("realization", "radiation_wavelength", "radiation_frequency", "sensor_band", "area_type")


def since(units: str) -> bool:
    """Whether CF units are those of a time ("hours since 1900-01-01")."""
    return " since " in f" {units} "


def is_time(name: str, coordinate: Variable | None) -> bool:
    """CF decides (units, axis, standard name), the dimension's name only where CF is silent."""
    if coordinate is not None:
        if since(coordinate.text("units")) or coordinate.text("axis").upper() == "T":
            return True
        if standard := coordinate.text("standard_name"):
            return standard in ("time", "forecast_reference_time", "forecast_period")
        if coordinate.text("axis"):
            return False
    return name.lower() in TIME_NAMES


def is_other(name: str, coordinate: Variable | None) -> bool:
    """An ensemble's member, a band: neither time nor space."""
    if coordinate is not None:
        if coordinate.text("axis") or coordinate.text("positive"):
            return False
        if coordinate.text("standard_name").startswith(_OTHER_STANDARD):
            return True
    return bool(OTHER_NAMES.match(name.lower()))


def meaning(variable: Variable, coordinates: dict[str, Variable]) -> Meaning:
    """The axes of the images that `variable` becomes."""
    names = [(dim.name, coordinates.get(dim.path)) for dim in variable.dims]
    times = [index for index, (name, found) in enumerate(names) if is_time(name, found)]
    others = [index for index, (name, found) in enumerate(names) if index not in times and is_other(name, found)]
    return roles.meaning(variable.shape, times=times, others=others)
