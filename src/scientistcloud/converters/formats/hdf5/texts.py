"""Attributes of HDF5 objects as Python values, whatever their text is encoded in."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from scientistcloud.converters.hdf5_links import DAMAGES

_MOST_ITEMS = 1 << 14


def attributes(handle: h5py.HLObject) -> dict[str, Any]:
    """Texts, lists of texts, NumPy numbers and arrays of them.

    References, compounds and what is damaged are left out.
    """
    found: dict[str, Any] = {}
    try:
        keys = list(handle.attrs)
    except DAMAGES:
        return found
    for key in keys:
        try:
            value = handle.attrs[key]
        except DAMAGES:
            continue
        plain = _plain(value)
        if plain is not None:
            found[text(key)] = plain
    return found


def text(value: Any) -> str:
    """`value` as text: UTF-8, and where it is none Latin-1, which instruments of old write (`\\xb5m` is µm)."""
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    if not isinstance(value, bytes):
        return str(value)
    plain = bytes(value).rstrip(b"\0")
    try:
        return plain.decode("utf-8")
    except UnicodeDecodeError:
        return plain.decode("latin-1")


def words(value: Any) -> list[str]:
    """A text or a list of texts as a list; other values give none."""
    if isinstance(value, str):
        return [value]
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def first_word(value: Any) -> str:
    """The first text of an attribute that may be a text or a list of them; "" without one."""
    return next(iter(words(value)), "").strip()


def first_number(value: Any) -> float | None:
    """The one number of an attribute or a data set of one item, also written as a text; None without one."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or array.size != 1:
        return None
    return float(array.reshape(-1)[0])


def _plain(value: Any) -> Any:
    match value:
        case bytes() | str():
            return text(value)
        case np.generic() if value.dtype.kind in "iufb":
            return value
        case np.ndarray() if value.size > _MOST_ITEMS:
            return None
        case np.ndarray() if value.dtype.kind in "iufb":
            return value if value.ndim else value[()]
        case np.ndarray() if value.dtype.kind in "SOU":
            items = value.reshape(-1).tolist()
            return [text(each) for each in items] if all(isinstance(each, str | bytes) for each in items) else None
        case _:
            return None
