"""The header ``Upload-Metadata`` of tus: pairs of a key and a value in Base64, and what ours ask for."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from scientistcloud.datasets.catalogue import checked_name, checked_sensor
from scientistcloud.errors import InvalidParameters
from scientistcloud.layout import source_path

_LENGTH = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody who opens an upload asks for."""

    #: Where the file goes, relative to the data set's `source/`: `relativePath`, else `filename`.
    path: str
    #: What the data set is to be called: `name`, else the file's own name.
    name: str
    sensor: str
    #: The open data set that the file belongs to; None: one of its own.
    dataset_uuid: str | None
    #: The header as it came.
    raw: str


def request_of(header: str) -> Request:
    """What the header asks for. Raises `InvalidParameters` that says what is wrong with it."""
    values = decode(header)
    path = values.get("relativePath") or values.get("filename")
    if not path:
        raise InvalidParameters("Upload-Metadata has no filename; send `filename` and its name in Base64")
    place = source_path(path)
    return Request(
        path=path,
        name=checked_name(values.get("name") or place.name),
        sensor=checked_sensor(values.get("sensor") or "auto"),
        dataset_uuid=values.get("dataset") or None,
        raw=header,
    )


def decode(header: str) -> dict[str, str]:
    """The pairs of the header; a key without a value has "". Raises `InvalidParameters`."""
    if len(header) > _LENGTH:
        raise InvalidParameters(f"Upload-Metadata is longer than {_LENGTH} characters; shorten the names in it")
    values: dict[str, str] = {}
    for pair in header.split(",") if header.strip() else ():
        key, _, encoded = pair.strip(" ").partition(" ")
        if not key or not key.isascii() or not key.isprintable():
            raise InvalidParameters(f"Upload-Metadata has the key {key[:60]!r}; keys are printable ASCII words")
        if key in values:
            raise InvalidParameters(f"Upload-Metadata names {key[:60]!r} twice; send it once")
        try:
            values[key] = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, ValueError):
            raise InvalidParameters(f"the value of {key[:60]!r} in Upload-Metadata is no Base64 of UTF-8") from None
    return values


def encode(values: Mapping[str, str]) -> str:
    """The header for `values`: what `decode` reads."""
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}".rstrip() for key, value in values.items())
