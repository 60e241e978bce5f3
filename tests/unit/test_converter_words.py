"""Units, names and reasons, apart from any file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scientistcloud.converters.choice import check_plausible, reason, unique
from scientistcloud.converters.formats.tiff.directory import declared_pages
from scientistcloud.converters.formats.tiff.folder import families
from scientistcloud.converters.names import natural
from scientistcloud.converters.overruled import options_from_text
from scientistcloud.converters.units import ome_length, ome_time
from scientistcloud.errors import InvalidParameters, UnreadableSource
from scientistcloud.omezarr.image import Axis, AxisKind, Image


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("um", "micrometer"),
        ("µm", "micrometer"),
        ("μm", "micrometer"),
        ("\\u00B5m", "micrometer"),
        ("micron", "micrometer"),
        ("Micrometers", "micrometer"),
        ("mm", "millimeter"),
        ("Mm", "megameter"),
        ("m", "meter"),
        ("metres", "meter"),
        ("km", "kilometer"),
        ("kilometre", "kilometer"),
        ("inch", "inch"),
        ("Å", "angstrom"),
        ("pixel", None),
        ("degrees_north", None),
        ("hPa", None),
        ("ms", None),
        ("", None),
        (None, None),
    ],
)
def test_lengths_are_spelled_as_ome_spells_them(text: str | None, unit: str | None) -> None:
    assert ome_length(text) == unit


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("s", "second"),
        ("sec", "second"),
        ("ms", "millisecond"),
        ("hours since 1900-01-01", "hour"),
        ("days since 2000-01-01 00:00", "day"),
        ("months since 2000-01-01", None),
        ("m", None),
    ],
)
def test_times_are_spelled_as_ome_spells_them(text: str, unit: str | None) -> None:
    assert ome_time(text) == unit


def test_units_are_only_those_of_omes_list() -> None:
    from ome_zarr_models.v05.axes import Axis as OmeAxis

    for prefix in (
        "",
        "y",
        "z",
        "a",
        "f",
        "p",
        "n",
        "u",
        "m",
        "c",
        "d",
        "h",
        "k",
        "M",
        "G",
        "T",
        "P",
        "E",
        "Z",
        "Y",
    ):
        for unit, kind in ((ome_length(f"{prefix}m"), "space"), (ome_time(f"{prefix}s"), "time")):
            assert unit is not None
            OmeAxis(name="a", type=kind, unit=unit)


def test_names_are_as_short_as_they_can_be() -> None:
    assert unique(["/a", "/b/c"]) == ["a", "c"]
    assert unique(["/x/a", "/y/a", "/a"]) == ["x_a", "y_a", "a"]
    assert unique(["/g/time"], taken=["time"]) == ["g_time"]
    assert unique(["/time"], taken=["time"]) == ["time_2"]
    assert unique(["image", "image", "mask"]) == ["image", "image_2", "mask"]
    assert unique(["/µ-wave power (W)", "/.zattrs"]) == ["µ-wave_power_W", "zattrs"]


@given(st.lists(st.text(alphabet="ab/_ ", max_size=6), max_size=8), st.sets(st.sampled_from(["a", "b", "a_b"])))
def test_names_are_always_unique(paths: list[str], taken: set[str]) -> None:
    names = unique(paths, taken=taken)

    assert len(names) == len(paths)
    assert len(set(names) | taken) == len(names) + len(taken)
    assert not any("/" in name or not name for name in names)


def image(name: str, *shape: int, space: int) -> Image:
    kinds = [AxisKind.TIME] * (len(shape) - space) + [AxisKind.SPACE] * space
    axes = [Axis(name=str(i), kind=kind, length=n) for i, (kind, n) in enumerate(zip(kinds, shape, strict=True))]
    return Image(name=name, source_name=name, axes=tuple(axes), dtype=np.dtype("u1"))


def test_the_reason_is_the_one_that_decided() -> None:
    cube, square, larger = image("a", 4, 4, 4, space=3), image("b", 4, 4, space=2), image("c", 9, 9, space=2)

    assert reason([cube]) == "a is the only image"
    assert "no other has 3 spatial axes" in reason([cube, square])
    assert "it has the most voxels" in reason([larger, square])
    assert "comes first in the file" in reason([square, image("d", 4, 4, space=2)])


def test_claims_are_believed_as_far_as_compression_goes() -> None:
    check_plausible("a.tif", "it", 1 << 30, 1000)
    check_plausible("a.tif", "it", 60_000_000_000, 1_000_000)
    with pytest.raises(UnreadableSource, match=r"a\.tif is damaged: it claims 1e\+15 bytes"):
        check_plausible("a.tif", "it", 10**15, 1_000_000)


@pytest.mark.parametrize(
    ("description", "pages"),
    [
        ("ImageJ=1.54\nimages=12\nslices=12\n", 12),
        ('{"shape": [12, 50, 60]}', 12),
        ('{"shape": [12, 50, 20, 3]}', 12),
        ("shape=(5,50,60)", 5),
        ('<OME><Image><Pixels SizeX="60" SizeY="50" SizeZ="4" SizeC="2" SizeT="3"/></Image></OME>', 24),
        ("a nice picture", None),
        ("", None),
    ],
)
def test_a_description_says_how_many_pages_there_are(description: str, pages: int | None) -> None:
    assert declared_pages(description, 3000) == pages


def test_natural_order_takes_numbers_as_numbers() -> None:
    assert sorted(["s10", "s2", "S1", "a"], key=natural) == ["a", "S1", "s2", "s10"]


def test_dates_and_times_in_names_are_one_series() -> None:
    names = ["img_20240101_1201.tif", "img_20240102_1130.tif", "img_20240103_0950.tif"]

    found, alone = families([Path(name) for name in names], Path())

    assert [[path.name for path in family.files] for family in found] == [names]
    assert alone == []


def test_options_are_read_as_people_type_them() -> None:
    options = options_from_text(array="z", axes="t, y,x", spacing="z=2.5,y=0.4")

    assert (options.array, options.axes, options.spacing) == ("z", ("t", "y", "x"), {"z": 2.5, "y": 0.4})
    with pytest.raises(InvalidParameters, match="'z' is no axis with a number"):
        options_from_text(array=None, axes=None, spacing="z")
