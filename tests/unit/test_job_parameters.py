"""What may be said of a job."""

from __future__ import annotations

import json
import math
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scientistcloud.errors import InvalidParameters
from scientistcloud.jobs.parameters import (
    DEEPEST,
    PARAMETERS_LIMIT_BYTES,
    checked_fraction,
    checked_name,
    checked_parameters,
    checked_result,
    checked_seconds,
    checked_time,
    checked_type,
    checked_uuid,
    checked_whole,
)

A_UUID = "0d1e2f3a-4b5c-4d6e-8f70-8192a3b4c5d6"

PERSONS = ["user", "user_id", "user_email", "owner", "email", "User_Email", "EMAIL"]
_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def nested(levels: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return {"a": value}


@given(st.dictionaries(st.text(), _JSON, max_size=4))
def test_json_without_a_person_is_accepted_as_it_is(parameters: dict[str, Any]) -> None:
    try:
        text = json.dumps(parameters, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        with pytest.raises(InvalidParameters, match="Unicode"):
            checked_parameters(parameters)
        return
    if any(f'"{key}":' in text.lower() for key in PERSONS):
        return

    assert checked_parameters(parameters) == parameters


@pytest.mark.parametrize("key", PERSONS)
@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: {"a": x}, lambda x: {"a": [1, [x]]}, lambda x: {"a": (x,)}]
)
def test_a_person_is_refused_at_any_depth(key: str, wrap: Any) -> None:
    with pytest.raises(InvalidParameters, match=f"names a person.*{key!r}"):
        checked_parameters(wrap({key: "ada@example.org"}))


def test_keys_that_only_resemble_a_person_s_are_accepted() -> None:
    parameters = {"users": 3, "ownership": "x", "email_count": 1, "note": "user"}

    assert checked_parameters(parameters) == parameters


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        (None, "JSON object"),
        ([1], "JSON object"),
        ("{}", "JSON object"),
        ({"a": math.nan}, "parameters.a is nan"),
        ({"a": [math.inf]}, r"parameters.a\[0\] is inf"),
        ({"a": {1: 2}}, "keys of JSON are texts"),
        ({"a": {1, 2}}, "not JSON"),
        ({"a": b"bytes"}, "not JSON"),
        ({"a": datetime.now(UTC)}, "not JSON"),
        ({"a": "\ud800"}, "Unicode"),
        (nested(DEEPEST + 1), "levels deep"),
    ],
)
def test_what_is_not_json_is_refused_and_named(parameters: object, why: str) -> None:
    with pytest.raises(InvalidParameters, match=why):
        checked_parameters(parameters)


def test_an_object_that_holds_itself_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["a"] = endless

    with pytest.raises(InvalidParameters, match="levels deep"):
        checked_parameters(endless)


def test_parameters_have_a_size_that_is_counted_in_bytes() -> None:
    frame = len('{"a": ""}')
    fits = {"a": "ß" * ((PARAMETERS_LIMIT_BYTES - frame) // 2)}

    assert checked_parameters(fits) == fits
    with pytest.raises(InvalidParameters, match="put it into a file"):
        checked_parameters({"a": fits["a"] + "ß"})


def test_parameters_are_a_copy() -> None:
    given_ = {"a": [1]}

    taken = checked_parameters(given_)
    given_["a"].append(2)

    assert taken == {"a": [1]}


def test_a_result_may_hold_what_a_file_says_of_its_owner() -> None:
    assert checked_result({"attributes": {"owner": "NOAA"}}) == {"attributes": {"owner": "NOAA"}}
    assert checked_result(None) is None
    with pytest.raises(InvalidParameters, match="result"):
        checked_result({"a": math.nan})


@pytest.mark.parametrize(
    "value", ["", "heart", None, 7, A_UUID.upper(), uuid.UUID(A_UUID), A_UUID.replace("-", "")]
)
def test_a_data_set_is_named_by_its_uuid_as_written(value: object) -> None:
    with pytest.raises(InvalidParameters, match="dataset_uuid"):
        checked_uuid(value)


@pytest.mark.parametrize("value", ["", "Dataset", "a b", "a-b", "1a", None, "x" * 65, "a\n"])
def test_a_job_type_is_a_plain_word(value: object) -> None:
    assert checked_type("dataset_conversion") == "dataset_conversion"
    with pytest.raises(InvalidParameters, match="job_type"):
        checked_type(value)


@pytest.mark.parametrize("value", ["", None, "x" * 201, "a\nb", "\ud800", 5])
def test_a_name_is_short_and_printable(value: object) -> None:
    assert checked_name("w1 on lab-3", "worker_id") == "w1 on lab-3"
    with pytest.raises(InvalidParameters, match="worker_id"):
        checked_name(value, "worker_id")


@pytest.mark.parametrize("value", [0, 4, 2.0, True, "2", None])
def test_a_whole_number_is_within_its_range(value: object) -> None:
    with pytest.raises(InvalidParameters, match=r"priority.* from 1 to 3"):
        checked_whole(value, "priority", least=1, most=3)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "1", True, None])
def test_seconds_are_positive_and_finite(value: object) -> None:
    assert checked_seconds(0, "wait_seconds", zero=True) == 0
    with pytest.raises(InvalidParameters, match="timeout_seconds"):
        checked_seconds(value, "timeout_seconds")


def test_a_time_needs_its_zone() -> None:
    with pytest.raises(InvalidParameters, match="time zone"):
        checked_time(datetime(2026, 1, 1), "run_at")  # noqa: DTZ001  # that is the mistake


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, "0.5", True])
def test_progress_is_a_fraction(value: object) -> None:
    with pytest.raises(InvalidParameters, match="from 0 to 1"):
        checked_fraction(value)
