"""What a Range header asks for (RFC 9110, section 14)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scientistcloud.portal.files import Span, span_of


@pytest.mark.parametrize(
    ("header", "size", "wanted"),
    [
        ("bytes=0-0", 10, Span(0, 1)),
        ("bytes=2-5", 10, Span(2, 6)),
        ("bytes=2-", 10, Span(2, 10)),
        ("bytes=2-99", 10, Span(2, 10)),
        ("bytes=-3", 10, Span(7, 10)),
        ("bytes=-99", 10, Span(0, 10)),
        (" Bytes = 2 - 5 ", 10, Span(2, 6)),
    ],
)
def test_one_range_is_understood(header: str, size: int, wanted: Span) -> None:
    assert span_of(header, size) == wanted


@pytest.mark.parametrize(
    "header",
    [None, "", "bytes", "bytes=", "bytes=-", "bytes=5-2", "bytes=a-b", "bytes=0-1,3-4", "rows=0-1", "bytes=--1",
     "bytes=1-2-3", "bytes=+1-2", "bytes=١-٢", f"bytes={'9' * 400}-"],
)  # fmt: skip
def test_anything_else_means_the_whole_file(header: str | None) -> None:
    assert span_of(header, 10) is None


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=99-100", 10), ("bytes=-0", 10), ("bytes=0-", 0)]
)
def test_a_range_behind_the_end_cannot_be_met(header: str, size: int) -> None:
    with pytest.raises(ValueError, match="bytes"):
        span_of(header, size)


@given(st.binary(min_size=1, max_size=50), st.integers(0, 60), st.integers(0, 60))
def test_a_range_gives_what_a_slice_gives(content: bytes, first: int, length: int) -> None:
    header = f"bytes={first}-{first + length}"
    if first >= len(content):
        with pytest.raises(ValueError, match="bytes"):
            span_of(header, len(content))
        return

    span = span_of(header, len(content))

    assert span is not None
    assert content[span.start : span.stop] == content[first : first + length + 1]
