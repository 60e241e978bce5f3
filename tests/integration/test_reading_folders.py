"""Folders of TIFF files: which of them are slices of one stack."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from scientistcloud.converters.registry import open_source
from scientistcloud.errors import UnreadableSource, UnsafeSource, UnsupportedSource
from scientistcloud.omezarr.image import Array, Source
from scientistcloud.testing.converters import whole


def slices(folder: Path, names: list[str], *shape: int, **options: Any) -> list[Array]:
    """A file for each name, each of other values."""
    made = []
    for number, name in enumerate(names):
        values = np.full(shape or (6, 8), number % 256, np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / name, values, **({"metadata": None} | options))
        made.append(values)
    return made


def read(folder: Path) -> tuple[Source, list[Array]]:
    reader = open_source(folder)
    try:
        source = reader.describe()
        return source, [reader.read(number, whole(image)) for number, image in enumerate(source.images)]
    finally:
        reader.close()


def axes(source: Source) -> list[str]:
    return ["".join(axis.name for axis in image.axes) for image in source.images]


def test_slices_are_taken_in_natural_order(tmp_path: Path) -> None:
    made = slices(tmp_path, ["s1.tif", "s10.tif", "s2.tif"])

    source, values = read(tmp_path)

    assert axes(source) == ["zyx"]
    assert np.array_equal(values[0], np.stack([made[0], made[2], made[1]]))


def test_gaps_are_said(tmp_path: Path) -> None:
    slices(tmp_path, [f"s{number:03}.tif" for number in (1, 2, 3, 5, 6, 9)])

    source, values = read(tmp_path)

    assert values[0].shape == (6, 6, 8)
    assert any("s*.tif have gaps: 3 missing (4, 7, 8)" in warning for warning in source.warnings)


def test_every_second_number_is_no_gap(tmp_path: Path) -> None:
    slices(tmp_path, [f"s{number:03}.tif" for number in (2, 4, 6, 8)])

    assert not any("gaps" in warning for warning in read(tmp_path)[0].warnings)


def test_a_slice_of_another_size_is_a_further_image(tmp_path: Path) -> None:
    slices(tmp_path, ["s1.tif", "s2.tif", "s4.tif"])
    slices(tmp_path, ["s3.tif"], 5, 5)

    source, values = read(tmp_path)

    assert axes(source) == ["zyx", "yx"]
    assert values[1].shape == (5, 5)
    assert any("s3.tif: no slices" in warning for warning in source.warnings)


def test_slices_stored_in_different_ways_are_one_stack(tmp_path: Path) -> None:
    made = slices(tmp_path, ["s1.tif"], 40, 48, byteorder=">", rowsperstrip=7)
    made += slices(tmp_path, ["s2.tif"], 40, 48, compression="zlib", tile=(16, 16))
    made += slices(tmp_path, ["s3.tif"], 40, 48)
    made[0][:], made[1][:] = 0, 0

    source, values = read(tmp_path)

    assert axes(source) == ["zyx"]
    assert np.array_equal(values[0], np.stack(made))


def test_files_of_many_pages_are_a_step_in_time_each(tmp_path: Path) -> None:
    made = slices(tmp_path, ["t1.tif", "t2.tif", "t10.tif"], 5, 6, 8)

    source, values = read(tmp_path)

    assert axes(source) == ["tzyx"]
    assert np.array_equal(values[0], np.stack(made))
    assert any("t*.tif is taken as a step in time" in warning for warning in source.warnings)


def test_names_with_two_numbers_are_a_stack_for_each_first_one(tmp_path: Path) -> None:
    slices(tmp_path, [f"sample{sample}_z{z}.tif" for sample in (1, 2) for z in range(4)])

    source, values = read(tmp_path)

    assert axes(source) == ["zyx", "zyx"]
    assert [value[:, 0, 0].tolist() for value in values] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [image.source_name for image in source.images] == [
        "sample1_z*.tif (4 files)",
        "sample2_z*.tif (4 files)",
    ]


def test_a_number_that_does_not_change_does_not_count(tmp_path: Path) -> None:
    slices(tmp_path, [f"s{number}_v2.tif" for number in (1, 2, 3)])

    assert axes(read(tmp_path)[0]) == ["zyx"]


def test_names_without_numbers_are_images_of_their_own(tmp_path: Path) -> None:
    slices(tmp_path, ["heart.tif", "liver.tif"])

    source, _ = read(tmp_path)

    assert axes(source) == ["yx", "yx"]
    assert [image.source_name for image in source.images] == ["heart.tif", "liver.tif"]


def test_slices_of_colour_are_one_stack_of_colour(tmp_path: Path) -> None:
    slices(tmp_path, ["s1.tif", "s2.tif"], 6, 8, 3, photometric="rgb")

    source, values = read(tmp_path)

    assert (source.sensor, axes(source)) == ("TIFF RGB", ["czyx"])
    assert values[0].shape == (3, 2, 6, 8)


def test_folders_below_belong_to_it_and_hidden_files_and_litter_do_not(tmp_path: Path) -> None:
    slices(tmp_path, ["scan/s1.tif", "scan/s2.tif"])
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "scan" / "Thumbs.db").write_bytes(b"x")
    slices(tmp_path, ["scan/.s3.tif"])

    source, values = read(tmp_path)

    assert values[0].shape == (2, 6, 8)
    assert source.warnings == ()


def test_files_that_are_no_tiff_are_left_out_and_named(tmp_path: Path) -> None:
    slices(tmp_path, ["s1.tif", "s2.tif"])
    (tmp_path / "notes.txt").write_text("beam was unstable")

    source, _ = read(tmp_path)

    assert any("notes.txt" in warning for warning in source.warnings)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    slices(folder, ["s1.tif"])
    tifffile.imwrite(tmp_path / "secret.tif", np.zeros((6, 8), np.uint8))
    (folder / "s2.tif").symlink_to(tmp_path / "secret.tif")

    with pytest.raises(UnsafeSource, match=r"s2\.tif leads to a file outside"):
        open_source(folder)


def test_a_slice_that_is_cut_off_is_named_before_anything_is_read(tmp_path: Path) -> None:
    slices(tmp_path, [f"scan_{number:02}.tif" for number in range(12)], 40, 50)
    cut = tmp_path / "scan_07.tif"
    cut.write_bytes(cut.read_bytes()[:1000])
    reader = open_source(tmp_path)
    source = reader.describe()

    with pytest.raises(UnreadableSource, match=r"scan_07\.tif ends at byte 1000"):
        reader.read(0, tuple(slice(0, 1) for _ in source.images[0].shape))
    reader.close()


def test_a_folder_may_hold_more_files_than_a_process_may_open(tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    slices(tmp_path, [f"s{number}.tif" for number in range(300)], 2, 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
    try:
        _, values = read(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert values[0].shape == (300, 2, 2)


def test_netcdf_files_of_a_folder_are_images_of_their_own(tmp_path: Path, data: Path) -> None:
    shutil.copy(data / "netcdf/eraint_uvz.nc", tmp_path / "a.nc")
    shutil.copy(data / "netcdf/tempo_no2_groups.nc4", tmp_path / "b.nc4")

    source, _ = read(tmp_path)

    assert [image.name for image in source.images] == ["z", "u", "v", "vertical_column_stratosphere"]
    assert source.images[0].source_name == "a:/z"


# -- OME-TIFF in several files --------------------------------------------------------------------


def ome(files: list[str], *, head: str = "") -> str:
    """A z stack whose planes lie in `files`, or what stands in for it."""
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
        for z, name in enumerate(files)
    )
    image = (
        '<Image ID="Image:0"><Pixels ID="Pixels:0" Type="uint8" DimensionOrder="XYZCT" SizeX="8" SizeY="6" '
        f'SizeZ="{len(files)}" SizeC="1" SizeT="1"><Channel ID="Channel:0:0"/>{planes}</Pixels></Image>'
    )
    return f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" {head}>{image if files else ""}</OME>'


def binary_only(companion: str) -> str:
    return (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0">'
        f'<BinaryOnly MetadataFile="{companion}" UUID="urn:uuid:c"/></OME>'
    )


def test_an_ome_tiff_of_several_files_is_one_stack(tmp_path: Path) -> None:
    names = ["plane_c.ome.tif", "plane_a.ome.tif", "plane_b.ome.tif"]
    for number, name in enumerate(names):
        text = ome(names, head=f'UUID="urn:uuid:{number}"')
        tifffile.imwrite(tmp_path / name, np.full((6, 8), number, np.uint8), description=text, metadata=None)

    source, values = read(tmp_path)

    assert axes(source) == ["zyx"]
    assert values[0][:, 0, 0].tolist() == [0, 1, 2]


def test_planes_in_a_file_that_was_not_sent_are_said(tmp_path: Path) -> None:
    text = ome(["here.ome.tif", "gone.ome.tif"], head='UUID="urn:uuid:0"')
    tifffile.imwrite(tmp_path / "here.ome.tif", np.ones((6, 8), np.uint8), description=text, metadata=None)

    source, values = read(tmp_path)

    assert values[0][:, 0, 0].tolist() == [1, 0]
    assert any("gone.ome.tif" in warning for warning in source.warnings)
    assert any("planes missing: 1" in warning for warning in source.warnings)


def test_a_companion_beside_its_files_describes_them(tmp_path: Path) -> None:
    (tmp_path / "set.companion.ome").write_text(ome(["b.ome.tif", "a.ome.tif"]))
    for number, name in enumerate(["b.ome.tif", "a.ome.tif"]):
        text = binary_only("set.companion.ome")
        tifffile.imwrite(tmp_path / name, np.full((6, 8), number, np.uint8), description=text, metadata=None)

    source, values = read(tmp_path)

    assert axes(source) == ["zyx"]
    assert values[0][:, 0, 0].tolist() == [0, 1]


def test_a_companion_that_is_missing_is_asked_for(tmp_path: Path) -> None:
    text = binary_only("set.companion.ome")
    tifffile.imwrite(tmp_path / "a.ome.tif", np.ones((6, 8), np.uint8), description=text, metadata=None)

    with pytest.raises(UnreadableSource, match=r"a\.ome\.tif keeps its description in 'set\.companion\.ome'"):
        open_source(tmp_path)


def test_a_companion_without_its_files_is_asked_for_them(tmp_path: Path) -> None:
    (tmp_path / "set.companion.ome").write_text(ome(["a.ome.tif"]))

    with pytest.raises(UnsupportedSource, match="describes images but holds none"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../secret.ome.tif", "sub/../../secret.ome.tif", "http://host/x.tif", "..\\secret.ome.tif"],
)
@pytest.mark.parametrize("where", ["file", "companion"])
def test_a_name_that_leads_out_of_the_data_set_is_refused(tmp_path: Path, name: str, where: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    tifffile.imwrite(tmp_path / "secret.ome.tif", np.full((6, 8), 99, np.uint8))
    text = ome([name], head='UUID="urn:uuid:9"') if where == "file" else binary_only(name)
    tifffile.imwrite(folder / "a.ome.tif", np.ones((6, 8), np.uint8), description=text, metadata=None)

    with pytest.raises(UnsafeSource, match=r"a\.ome\.tif names a file outside its data set"):
        open_source(folder / "a.ome.tif")


def test_a_link_to_a_plane_outside_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    tifffile.imwrite(tmp_path / "secret.ome.tif", np.full((6, 8), 99, np.uint8))
    (folder / "b.ome.tif").symlink_to(tmp_path / "secret.ome.tif")
    text = ome(["b.ome.tif"], head='UUID="urn:uuid:9"')
    tifffile.imwrite(folder / "a.ome.tif", np.ones((6, 8), np.uint8), description=text, metadata=None)

    with pytest.raises(UnsafeSource, match=r"a\.ome\.tif names a file outside its data set"):
        open_source(folder / "a.ome.tif")
