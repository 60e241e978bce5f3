"""The variables of a netCDF file with their attributes, groups walked, as records of our own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import netCDF4
import numpy as np

from scientistcloud.omezarr.image import Array


@dataclass(frozen=True, slots=True)
class Dimension:
    """A dimension; two of the same name in different groups differ by `path`."""

    name: str
    path: str
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class Variable:
    """A numeric variable as it is stored."""

    path: str
    dims: tuple[Dimension, ...]
    #: In native byte order, unsigned where the file means it so.
    dtype: np.dtype[Any]
    #: As in the file: strings, NumPy scalars, NumPy arrays.
    attributes: dict[str, Any]
    #: The block that one read touches; None where it lies in one piece.
    chunk: tuple[int, ...] | None
    #: netCDF4's variable; None for a grid mapping of type text, whose value means nothing (CF 5.6).
    handle: Any

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def group(self) -> str:
        return self.path.rsplit("/", 1)[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(dim.length for dim in self.dims)

    def text(self, attribute: str) -> str:
        """A text attribute; "" where it is missing or no text."""
        value = self.attributes.get(attribute)
        return value.strip() if isinstance(value, str) else ""

    def numbers(self, attribute: str) -> Array:
        """A numeric attribute as an array of one axis; empty where it is missing or no number."""
        value = np.atleast_1d(np.asarray(self.attributes.get(attribute, ())))
        return value if value.dtype.kind in "iuf" else np.empty(0)


def walk(dataset: netCDF4.Dataset) -> tuple[list[Variable], list[str]]:
    """Every numeric variable in the order of the file, and the paths of the others (texts, compounds …)."""
    found: list[Variable] = []
    others: list[str] = []
    for group, path in _groups(dataset, ""):
        for name, handle in group.variables.items():
            handle.set_auto_maskandscale(False)
            handle.set_always_mask(False)
            where = f"{path}/{name}"
            dtype = _stored(handle)
            attributes = {key: handle.getncattr(key) for key in handle.ncattrs()}
            if dtype is None:
                if not handle.dimensions and {"grid_mapping_name", "crs_wkt", "spatial_ref"} & attributes.keys():
                    found.append(Variable(where, (), np.dtype(np.int32), attributes, None, None))
                else:
                    others.append(where)
                continue
            if isinstance(handle.datatype, netCDF4.EnumType):
                meanings = handle.datatype.enum_dict
                attributes.setdefault("flag_values", np.array(list(meanings.values()), dtype))
                attributes.setdefault("flag_meanings", " ".join(word.replace(" ", "_") for word in meanings))
            chunk = handle.chunking()
            found.append(
                Variable(
                    path=where,
                    dims=tuple(_dimension(group, path, dim) for dim in handle.dimensions),
                    dtype=_meant(dtype, attributes),
                    attributes=attributes,
                    chunk=tuple(map(int, chunk)) if isinstance(chunk, list) else None,
                    handle=handle,
                )
            )
    return found, others


def _groups(group: Any, path: str) -> Iterator[tuple[Any, str]]:
    yield group, path
    for name, below in group.groups.items():
        yield from _groups(below, f"{path}/{name}")


def _stored(handle: Any) -> np.dtype[Any] | None:
    """The type of the values on disk; None for texts, compounds and lists of varying length."""
    if isinstance(handle.datatype, netCDF4.EnumType):
        return np.dtype(handle.datatype.dtype).newbyteorder("=")
    if isinstance(handle.datatype, np.dtype) and handle.datatype.kind in "iuf":
        return handle.datatype.newbyteorder("=")
    return None


def _meant(dtype: np.dtype[Any], attributes: dict[str, Any]) -> np.dtype[Any]:
    """`_Unsigned` wins; without it a byte whose valid range goes beyond 127 is unsigned (NetCDF Users Guide)."""
    if dtype.kind not in "iu":
        return dtype
    said = attributes.get("_Unsigned")
    if isinstance(said, str) and said.lower() in ("true", "false"):
        return np.dtype(f"{'u' if said.lower() == 'true' else 'i'}{dtype.itemsize}")
    if dtype == np.int8:
        for key in ("valid_range", "valid_max"):
            values = np.atleast_1d(np.asarray(attributes.get(key, ())))
            # A range that was itself stored as signed bytes ends below where it begins.
            if values.dtype.kind in "iuf" and values.size and _top(values) > 127:
                return np.dtype(np.uint8)
    return dtype


def _top(values: Array) -> float:
    top = float(values[-1])
    return top + 256 if values.dtype == np.int8 and top < 0 and (len(values) < 2 or values[0] >= 0) else top


def _dimension(group: Any, path: str, name: str) -> Dimension:
    """The dimension of that name nearest above."""
    while name not in group.dimensions and group.parent is not None:
        group, path = group.parent, path.rsplit("/", 1)[0]
    return Dimension(name=name, path=f"{path}/{name}", length=len(group.dimensions[name]))
