"""What may be said of a job, checked at the door: shapes, ranges, sizes, and that nobody is named."""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeGuard

from scientistcloud.errors import InvalidParameters
from scientistcloud.records import Json

PARAMETERS_LIMIT_BYTES = 1 << 20
"""Of a job's `parameters` where nothing else is set, and of its `result`, as JSON in UTF-8."""

DEEPEST = 64
"""Levels of objects and lists in each other."""

ATTEMPTS_LIMIT = 1000
_NAME_LENGTH = 200
_TYPE = re.compile(r"[a-z][a-z0-9_]{0,63}")
# A job works on a data set, whoever's it is: these keys have no place at any depth.
PERSONS = frozenset({"user", "user_id", "user_email", "owner", "email"})
"""Keys, in small letters, that name a person."""

# Made once: with options, `json.dumps` makes one for each call.
_encoded = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_decoded = json.JSONDecoder().decode


def checked_parameters(value: object, *, limit_bytes: int = PARAMETERS_LIMIT_BYTES) -> Json:
    """A copy of `value`, a JSON object without a person's key. Raises `InvalidParameters`."""
    return _checked_object(value, "parameters", refused=PERSONS, limit_bytes=limit_bytes)


def without_persons(value: Any) -> Any:
    """A copy of the JSON `value` without a person's key at any depth."""
    match value:
        case Mapping():
            return {key: without_persons(each) for key, each in value.items() if str(key).lower() not in PERSONS}
        case list() | tuple():
            return [without_persons(each) for each in value]
        case _:
            return value


def checked_result(value: object) -> Json | None:
    """A copy of `value`, a JSON object or None. Raises `InvalidParameters`."""
    return (
        None
        if value is None
        else _checked_object(value, "result", refused=frozenset(), limit_bytes=PARAMETERS_LIMIT_BYTES)
    )


def checked_uuid(value: object) -> str:
    """`value`, if it is a UUID as ``str(uuid.uuid4())`` writes it."""
    try:
        if isinstance(value, str) and str(uuid.UUID(value)) == value:
            return value
    except ValueError:
        pass
    raise InvalidParameters(
        f"dataset_uuid is {_shown(value)}; give the data set's UUID, as str(uuid.uuid4()) has it"
    )


def checked_type(value: object) -> str:
    """`value`, if it can be a job type."""
    if isinstance(value, str) and _TYPE.fullmatch(value):
        return value
    raise InvalidParameters(
        f"job_type is {_shown(value)}; use small letters, digits and underscores, as in 'dataset_conversion'"
    )


def checked_name(value: object, name: str) -> str:
    """`value`, if it is a printable text of 1 to 200 characters: a worker's id, an idempotency key."""
    if isinstance(value, str) and 0 < len(value) <= _NAME_LENGTH and value.isprintable():
        return value
    raise InvalidParameters(f"{name} is {_shown(value)}; give 1 to {_NAME_LENGTH} printable characters")


def checked_whole(value: object, name: str, *, least: int, most: int) -> int:
    """`value`, if it is a whole number from `least` to `most`."""
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise InvalidParameters(f"{name} is {_shown(value)}; give a whole number from {least} to {most}")


def checked_seconds(value: object, name: str, *, zero: bool = False) -> float:
    """`value`, if it is a finite number of seconds, greater than 0 (`zero`: or 0)."""
    if _is_number(value) and (value > 0 or (zero and value == 0)):
        return float(value)
    raise InvalidParameters(f"{name} is {_shown(value)}; give a {'' if zero else 'positive '}number of seconds")


def checked_time(value: object, name: str) -> datetime:
    """`value`, if it is a moment that everybody understands alike."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    raise InvalidParameters(f"{name} is {_shown(value)}; give a datetime with its time zone, as datetime.now(UTC)")


def checked_fraction(value: object) -> float:
    """`value`, if it is a number from 0 to 1."""
    if _is_number(value) and 0 <= value <= 1:
        return float(value)
    raise InvalidParameters(f"progress is {_shown(value)}; give a number from 0 to 1")


def _checked_object(value: object, name: str, *, refused: frozenset[str], limit_bytes: int) -> Json:
    if not isinstance(value, Mapping):
        raise InvalidParameters(f"{name} is {_shown(value)}; give a JSON object (a dict)")
    _check_value(value, name, refused=refused, depth=0)
    try:
        text = _encoded(value)
        size_bytes = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidParameters(f"{name} holds a text that is not valid Unicode; mend or remove it") from None
    if size_bytes > limit_bytes:
        raise InvalidParameters(
            f"{name} takes {size_bytes} bytes as JSON, more than {limit_bytes}; put it into a file and "
            "give its path"
        )
    copy: dict[str, Any] = _decoded(text)
    return copy


def _check_value(value: object, place: str, *, refused: frozenset[str], depth: int) -> None:
    if depth > DEEPEST:
        raise InvalidParameters(f"{place[:200]}… lies more than {DEEPEST} levels deep; make it flatter")
    match value:
        case None | bool() | str() | int():
            return
        case float() if math.isfinite(value):
            return
        case dict():
            for key, each in value.items():
                if not isinstance(key, str):
                    raise InvalidParameters(f"{place} has the key {_shown(key)}; keys of JSON are texts")
                if key.lower() in refused:
                    raise InvalidParameters(
                        f"{place}.{key} names a person; a job knows its data set alone, so leave {key!r} out"
                    )
                _check_value(each, f"{place}.{key}", refused=refused, depth=depth + 1)
        case list() | tuple():
            for index, each in enumerate(value):
                _check_value(each, f"{place}[{index}]", refused=refused, depth=depth + 1)
        case _:
            raise InvalidParameters(
                f"{place} is {_shown(value)}, which is not JSON; use texts, finite numbers, true, false, null, "
                "lists and objects"
            )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: object) -> str:
    """`value` in one short line."""
    text = " ".join(ascii(value).split())
    return text if len(text) <= 80 else text[:77] + "..."
