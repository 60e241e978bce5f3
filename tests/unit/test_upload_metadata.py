"""The header Upload-Metadata: what is sent comes back, and nonsense is refused in words."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scientistcloud.errors import InvalidParameters
from scientistcloud.uploads.metadata import decode, encode, request_of

KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), min_size=1, max_size=20)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


def header(**values: str) -> str:
    return encode(values)


@given(st.dictionaries(KEYS, TEXTS, max_size=6))
def test_whatever_is_encoded_comes_back(values: dict[str, str]) -> None:
    assert decode(encode(values)) == values


@given(st.text(st.characters(max_codepoint=255), max_size=300))
def test_any_header_is_understood_or_refused(text: str) -> None:
    try:
        values = decode(text)
    except InvalidParameters:
        return
    assert all(isinstance(value, str) for value in values.values())


@given(TEXTS)
def test_a_name_is_kept_exactly_or_refused(name: str) -> None:
    try:
        request = request_of(header(filename=name))
    except InvalidParameters:
        return
    assert request.path == name


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "🔬 scan.tif", "a&b;c.tif", "名前.tif", "x" * 255, "sub/deep/scan.tif"]
)
def test_odd_but_sound_names_are_kept_exactly(name: str) -> None:
    if name.startswith("<"):
        name = name.replace("/", "\N{DIVISION SLASH}")  # a slash would be a folder

    assert request_of(header(relativePath=name, filename="other")).path == name


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../x", "/etc/passwd", "a//b", "./a", "a/.", "a\0b", "a\nb", "a\\b", "x" * 256, "é" * 128, "a/"],
)
def test_a_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(InvalidParameters, match="file name"):
        request_of(header(filename=name))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no filename"),
        ("filename", "no filename"),
        ("filename !!!", "no Base64"),
        ("filename " + base64.b64encode(b"\xff\xfe").decode(), "no Base64 of UTF-8"),
        (header(filename="a") + "," + header(filename="b"), "twice"),
        (",", "the key ''"),
        ("filename YQ== b", "no Base64"),
        ("n\xe4me YQ==", "printable ASCII"),
        ("a" * 20_000, "longer than"),
    ],
)
def test_a_header_that_cannot_be_read_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(InvalidParameters, match=said):
        request_of(text)


def test_the_data_set_is_called_as_asked_or_like_the_file() -> None:
    assert request_of(header(relativePath="day 1/scan.tif")).name == "scan.tif"
    assert request_of(header(filename="scan.tif", name="Cells", sensor="TIFF")).name == "Cells"
    assert request_of(header(filename="scan.tif")).sensor == "auto"
    assert request_of(header(filename="scan.tif")).dataset_uuid is None
