"""Which variables are the coordinates, bounds and grid mappings of which."""

from __future__ import annotations

from collections.abc import Sequence

from scientistcloud.converters.formats.netcdf.variables import Variable

REFERENCES = ("coordinates", "bounds", "climatology", "grid_mapping")
"""Attributes that name other variables which an image takes along."""
_NORTH = ("degrees_north", "degree_north", "degree_n", "degrees_n", "degreen", "degreesn")
_EAST = ("degrees_east", "degree_east", "degree_e", "degrees_e", "degreee", "degreese")


class Coordinates:
    """The attendants of a file's variables, in the sense of CF, also from other groups."""

    def __init__(self, variables: Sequence[Variable]) -> None:
        self._variables = variables
        self._by_path = {variable.path: variable for variable in variables}
        #: The coordinate variable of each dimension that has one, by the dimension's path.
        self.of_dimension: dict[str, Variable] = {}
        for variable in variables:
            if len(variable.dims) == 1 and variable.name == variable.dims[0].name:
                path = variable.dims[0].path
                if variable.path == path or path not in self.of_dimension:
                    self.of_dimension[path] = variable
        self._attendants = {variable.path for variable in self.of_dimension.values()}
        for variable in variables:
            self._attendants |= {found.path for found in self._named(variable)}
        self._attendants |= {variable.path for variable in variables if _geographic(variable)}
        # Which node belongs to which face of an unstructured mesh (UGRID) is no picture.
        self._attendants |= {variable.path for variable in variables if "connectivity" in variable.text("cf_role")}

    def data(self) -> list[Variable]:
        """What is no coordinate, bounds or scalar, in the order of the file."""
        found = [
            variable for variable in self._variables if variable.dims and variable.path not in self._attendants
        ]
        if any(len(variable.dims) > 1 for variable in found):
            return found
        # Nothing but latitudes and longitudes, say: then these are the data.
        no_fields = {bound.path for variable in self._variables for bound in self.bounds(variable)}
        no_fields |= {variable.path for variable in self._variables if "connectivity" in variable.text("cf_role")}
        return [variable for variable in self._variables if variable.dims and variable.path not in no_fields]

    def of(self, variable: Variable) -> list[Variable]:
        """Coordinates, their bounds and the grid mapping of `variable`, each once."""
        dims = {dim.path for dim in variable.dims}
        found = [self.of_dimension[dim.path] for dim in variable.dims if dim.path in self.of_dimension]
        found += self._named(variable)
        found += [
            other
            for other in self._variables
            if _geographic(other) and other.dims and {dim.path for dim in other.dims} <= dims
        ]
        found += [bound for each in found for bound in self.bounds(each)]
        return [each for each in dict.fromkeys(found) if each is not variable]

    def bounds(self, variable: Variable) -> list[Variable]:
        words = [variable.text("bounds"), variable.text("climatology")]
        found = [self.resolve(word, variable) for word in words if word]
        return [each for each in found if each is not None]

    def _named(self, variable: Variable) -> list[Variable]:
        words = variable.text("coordinates").split()
        # "crs: x y" names the mapping of these two coordinates; "crs" that of all.
        words += [word.rstrip(":") for word in variable.text("grid_mapping").split()[:1]]
        found = [self.resolve(word, variable) for word in words]
        return [each for each in found if each is not None] + self.bounds(variable)

    def resolve(self, word: str, variable: Variable) -> Variable | None:
        """CF 2.7.1: by path, in the own group, the groups above; then anywhere with dimensions that fit."""
        if word.startswith("/"):
            return self._by_path.get(word)
        group = variable.group
        while True:
            if found := self._by_path.get(f"{group}/{word}"):
                return found
            if not group:
                break
            group = group.rsplit("/", 1)[0]
        dims = {dim.path for dim in variable.dims}
        name = word.rsplit("/", 1)[-1]
        for other in self._variables:
            if other.name == name and {dim.path for dim in other.dims} <= dims:
                return other
        return None


def _geographic(variable: Variable) -> bool:
    """Latitudes and longitudes by their units, which CF gives to nothing else."""
    units = variable.text("units").lower()
    standard = variable.text("standard_name")
    return (units in _NORTH or units in _EAST) and standard in ("", "latitude", "longitude")
