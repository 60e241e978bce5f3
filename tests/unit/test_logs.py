"""Log lines: good to read as text, taken apart as JSON."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scientistcloud.logs import JsonLines, facts, taken_apart


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("scientistcloud.test_logs")
    logger.addHandler(handler)
    logger.propagate = False
    yield stream
    logger.removeHandler(handler)
    logger.propagate = True


def test_a_line_says_what_happened_and_to_what(stream: io.StringIO) -> None:
    logger = logging.getLogger("scientistcloud.test_logs")

    logger.warning(
        "attempt failed%s", facts(dataset_uuid="11-22", job_id="j-1", reason='the "disk" is\nfull', more=None)
    )

    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "scientistcloud.test_logs",
        "event": "attempt failed",
        "dataset_uuid": "11-22",
        "job_id": "j-1",
        "reason": 'the "disk" is\nfull',
    }


def test_an_exception_is_one_line_too(stream: io.StringIO) -> None:
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        logging.getLogger("scientistcloud.test_logs").exception("it broke")

    assert stream.getvalue().count("\n") == 1
    assert "ZeroDivisionError" in json.loads(stream.getvalue())["exception"]


_SAID = (
    st.text(min_size=1) | st.from_regex(r"-?[0-9]+(\.[0-9]+)?") | st.integers(-(10**18), 10**18) | st.floats(0, 1e9)
)


@given(st.dictionaries(st.from_regex(r"[a-z_]+", fullmatch=True), _SAID, max_size=5))
def test_whatever_is_said_comes_back(named: dict[str, str | float]) -> None:
    event, found = taken_apart("something happened" + facts(**named))

    assert event == "something happened"
    assert found == named
    assert {name: type(value) for name, value in found.items()} == {
        name: type(each) for name, each in named.items()
    }


def test_numbers_are_numbers_in_json(stream: io.StringIO) -> None:
    logging.getLogger("scientistcloud.test_logs").warning("took%s", facts(seconds=1.25, bytes=7, worker_id="12"))

    line = json.loads(stream.getvalue())
    assert (line["seconds"], line["bytes"], line["worker_id"]) == (1.25, 7, "12")


@pytest.mark.parametrize("message", ["", "a = b", 'x="', 'path="C:\\x"', "a=b=c", "100 % done"])
def test_a_line_that_was_not_made_for_it_is_no_error(message: str) -> None:
    taken_apart(message)
