"""NeXus as it is really written: which of its many arrays is the picture, and what lies along its axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest

from scientistcloud.converters.contract import ReadOptions
from scientistcloud.converters.registry import open_source
from scientistcloud.errors import UnreadableSource, UnsupportedSource
from scientistcloud.omezarr.image import Array, AxisKind, Coordinate, Image, Source
from scientistcloud.testing.converters import whole

Write = Callable[[h5py.Group], None]
STACK = np.arange(3 * 8 * 9, dtype=np.int32).reshape(3, 8, 9)
FRAME = np.arange(64 * 65, dtype=np.int32).reshape(64, 65)


def nx(parent: h5py.Group, name: str, nx_class: str, **attributes: Any) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    for key, value in attributes.items():
        group.attrs[key] = value
    return group


def nxdata(parent: h5py.Group, name: str, values: Array, *, signal: str = "data", **attributes: Any) -> h5py.Group:
    group = nx(parent, name, "NXdata", signal=signal, **attributes)
    group[signal] = values
    return group


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scan.nxs"


@contextmanager
def entry(path: Path) -> Iterator[h5py.Group]:
    with h5py.File(path, "w") as file:
        yield nx(file, "entry", "NXentry")


def described(path: Path, **options: Any) -> Source:
    reader = open_source(path, options=ReadOptions(**options))
    try:
        return reader.describe()
    finally:
        reader.close()


def values(path: Path) -> Array:
    reader = open_source(path)
    try:
        return reader.read(0, whole(reader.describe().images[0]))
    finally:
        reader.close()


def first(path: Path, **options: Any) -> Image:
    return described(path, **options).images[0]


def coordinate(image: Image, name: str) -> Coordinate:
    return next(each for each in image.coordinates if each.name == name)


# -- which format ---------------------------------------------------------------------------------


def test_netcdf_4_stays_netcdf_and_is_refused_as_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "ocean.h5"
    file: Any
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("y", 4)
        file.createDimension("x", 5)
        file.createVariable("v", "u1", ("y", "x"))[:] = 1

    assert described(path).sensor == "NETCDF"
    with pytest.raises(UnsupportedSource, match=r"ocean\.h5 was said to be HDF5, but it is NETCDF"):
        open_source(path, sensor="HDF5")


def test_hdf5_is_refused_as_netcdf(path: Path) -> None:
    with entry(path) as group:
        nxdata(group, "data", STACK)

    with pytest.raises(UnsupportedSource, match=r"scan\.nxs was said to be NETCDF, but it is HDF5"):
        open_source(path, sensor="NETCDF")


def test_hdf4_under_the_ending_of_hdf5_is_named(tmp_path: Path) -> None:
    (tmp_path / "scan.h5").write_bytes(b"\x0e\x03\x13\x01" + bytes(2000))

    with pytest.raises(UnsupportedSource, match=r"scan\.h5.* HDF4 .*h4toh5"):
        open_source(tmp_path / "scan.h5")


# -- which array ---------------------------------------------------------------------------------


def test_the_chain_of_defaults_wins_over_a_larger_image(path: Path) -> None:
    with entry(path) as group:
        nxdata(group, "big", np.zeros((50, 60)))
        nxdata(group, "small", STACK[0])
        group.file.attrs["default"], group.attrs["default"] = "entry", "small"

    source = described(path)

    assert source.images[0].source_name == "/entry/small/data"
    assert "`default` attributes" in source.reason
    assert [image.source_name for image in source.images[1:]] == ["/entry/big/data"]


def test_a_default_may_lead_through_a_subentry(path: Path) -> None:
    with entry(path) as group:
        nxdata(group, "big", np.zeros((50, 60)))
        inner = nx(group, "saxs", "NXsubentry", default="result")
        nxdata(inner, "result", STACK[0])
        group.attrs["default"] = "saxs"

    assert first(path).source_name == "/entry/saxs/result/data"


@pytest.mark.parametrize("word", ["nothing", "data/data", "/entry"])
def test_a_default_that_leads_nowhere_is_said_and_left_out_of_account(path: Path, word: str) -> None:
    with entry(path) as group:
        nxdata(group, "data", STACK)
        group.attrs["default"] = word

    source = described(path)

    assert source.images[0].source_name == "/entry/data/data"
    assert any("@default" in warning for warning in source.warnings)


def test_a_default_that_is_a_plot_gives_way_to_a_picture(path: Path) -> None:
    with entry(path) as group:
        nxdata(group, "curve", np.arange(5.0))
        nxdata(group, "data", STACK)
        group.attrs["default"] = "curve"

    source = described(path)

    assert source.images[0].source_name == "/entry/data/data"
    assert "/entry/curve/data is the default, but a plot and no picture" in source.warnings


def test_an_image_comes_before_a_spectrum_before_the_rest_whatever_their_sizes(path: Path) -> None:
    with entry(path) as group:
        for name, size, said in (("a", 40, None), ("b", 30, "spectrum"), ("c", 20, "image"), ("d", 10, "image")):
            data = nxdata(group, name, np.zeros((size, size)))
            if said:
                data["data"].attrs["interpretation"] = said

    source = described(path)

    assert [image.source_name[7] for image in source.images] == ["c", "d", "b", "a"]


def test_the_nxdata_of_every_entry_and_subentry_are_there(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for number in (1, 2):
            group = nx(file, f"entry{number}", "NXentry")
            nxdata(group, "data", np.full((4, 5), number))
            nxdata(nx(group, "part", "NXsubentry"), "data", np.full((4, 6), number))
            nxdata(nx(group, "process", "NXprocess"), "reduced", np.full((4, 7), number))

    names = {image.source_name for image in described(path).images}

    assert names == {f"/entry{n}/{rest}/data" for n in (1, 2) for rest in ("data", "part/data", "process/reduced")}


def test_auxiliary_signals_are_further_images(path: Path) -> None:
    with entry(path) as group:
        data = nxdata(group, "data", STACK[0], auxiliary_signals=["other", "third"])
        data["other"], data["third"] = STACK[1], STACK[2]

    assert [image.name for image in described(path).images] == ["data", "other", "third"]


@pytest.mark.parametrize("mark", [1, "1", np.array([1], np.int32), np.bytes_(b"1")])
def test_old_files_mark_the_signal_itself(path: Path, mark: Any) -> None:
    with entry(path) as group:
        data = nx(group, "data", "NXdata")
        data["big"], data["counts"] = FRAME, STACK[0]
        data["counts"].attrs["signal"] = mark

    image = first(path)

    assert image.source_name == "/entry/data/counts"
    np.testing.assert_array_equal(values(path), STACK[0])


def test_texts_marked_as_a_signal_are_no_image(path: Path) -> None:
    with entry(path) as group:
        data = nx(group, "data", "NXdata")
        data["files"] = np.array([["a.tif", "b.tif"], ["c.tif", "d.tif"]], dtype=h5py.string_dtype())
        data["files"].attrs["signal"] = 1
        data["sums"] = STACK[0]
        data["sums"].attrs["signal"] = 2

    source = described(path)

    assert [image.name for image in source.images] == ["sums"]
    assert "/entry/data/files is marked as a signal, but holds no numbers" in source.warnings


def test_monitors_orientation_matrices_and_unit_cells_are_never_shown(path: Path) -> None:
    with entry(path) as group:
        monitor = nx(group, "control", "NXmonitor", signal="data")
        monitor["data"] = np.zeros((100, 100))
        sample = nx(group, "sample", "NXsample")
        sample["orientation_matrix"] = np.zeros((30, 30))
        group["unit_cell"] = np.zeros((20, 6))
        group["ub_matrix"] = np.zeros((3, 3))
        group["image"] = STACK[0]

    assert [image.name for image in described(path).images] == ["image"]


def test_a_monitor_linked_into_an_nxdata_stays_a_monitor(path: Path) -> None:
    with entry(path) as group:
        monitor = nx(group, "control", "NXmonitor")
        monitor["data"] = np.zeros((100, 100))
        linked = nx(group, "a", "NXdata", signal="data")
        linked["data"] = monitor["data"]
        nxdata(group, "b", STACK[0])

    assert [image.source_name for image in described(path).images] == ["/entry/b/data"]


def test_what_no_nxdata_names_is_shown_only_where_it_is_asked_for(path: Path) -> None:
    with entry(path) as group:
        nxdata(group, "data", STACK[0])
        nx(group, "detector", "NXdetector")["details"] = FRAME

    assert [image.name for image in described(path).images] == ["data"]
    for asked in ("/entry/detector/details", "entry/detector/details", "details"):
        assert first(path, array=asked).source_name == "/entry/detector/details"


def test_without_any_nxdata_the_largest_array_is_shown(path: Path) -> None:
    with entry(path) as group:
        group["a"], group["b"], group["curve"] = STACK[0], FRAME, np.arange(9)

    source = described(path)

    assert [image.name for image in source.images] == ["b", "a"]
    assert "most voxels" in source.reason


def test_nothing_but_curves_is_refused_as_what_it_is(path: Path) -> None:
    with entry(path) as group:
        nxdata(group, "data", np.arange(5.0))

    with pytest.raises(UnsupportedSource, match=r"plots and no picture.*/entry/data/data float64 \(5,\)"):
        open_source(path)


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["counts_errors", "errors", "sigma"])
def test_errors_are_siblings_of_the_signal_and_never_shown_first(path: Path, name: str) -> None:
    with entry(path) as group:
        data = nxdata(group, "data", STACK[0], signal="counts", axes=["y", "x"])
        data[name] = np.sqrt(STACK[0].astype(float))
        data["counts"].attrs["uncertainties"] = name
        data["y"] = np.arange(8) * 0.25

    first_, sibling = described(path).images

    assert (first_.name, sibling.name) == ("counts", name)
    assert sibling.dtype == np.float64
    assert sibling.axes == first_.axes


# -- axes ----------------------------------------------------------------------------------------


def test_axes_of_the_group_name_the_dimensions_and_their_coordinates(path: Path) -> None:
    with entry(path) as group:
        data = nxdata(group, "data", STACK, axes=["energy", "sample_y", "sample_x"])
        data["energy"] = np.array([280.0, 284.5, 320.0])
        data["energy"].attrs["units"] = "eV"
        for name, length in (("sample_y", 8), ("sample_x", 9)):
            data[name] = 10 + 0.5 * np.arange(length)
            data[name].attrs["units"] = np.bytes_("µm".encode())

    image = first(path)

    assert [(axis.name, axis.kind) for axis in image.axes] == [
        ("energy", AxisKind.CUSTOM),
        ("sample_y", AxisKind.SPACE),
        ("sample_x", AxisKind.SPACE),
    ]
    assert [(axis.spacing, axis.origin, axis.unit) for axis in image.axes] == [
        (None, 0.0, None),
        (0.5, 10.0, "micrometer"),
        (0.5, 10.0, "micrometer"),
    ]
    assert coordinate(image, "energy").values.tolist() == [280.0, 284.5, 320.0]
    assert coordinate(image, "energy").attributes["units"] == "eV"


def test_indices_say_which_dimension_an_axis_lies_along(path: Path) -> None:
    with entry(path) as group:
        # Both have 8 values, so that only the indices can tell.
        data = nxdata(
            group, "data", np.zeros((3, 8, 8)), axes=[".", "rows", "."], rows_indices=1, columns_indices=[2]
        )
        data["rows"], data["columns"] = np.arange(8) * 2.0, np.arange(8) * 3.0

    image = first(path)

    assert [axis.name for axis in image.axes] == ["dim_0", "rows", "columns"]
    assert [axis.spacing for axis in image.axes] == [None, 2.0, 3.0]


def test_an_axis_that_lies_along_two_dimensions_becomes_a_coordinate_of_both(path: Path) -> None:
    with entry(path) as group:
        data = nxdata(group, "data", STACK[0], axes=["y", "x"], stage_x_indices=[0, 1])
        data["stage_x"] = np.random.default_rng(0).random((8, 9))

    found = coordinate(first(path), "stage_x")

    assert found.dims == ("y", "x")


def test_bin_edges_become_centres_and_are_kept_as_bounds(path: Path) -> None:
    edges = np.array([0, 1, 3, 6, 10, 15, 21, 28, 36, 45], np.float32)
    with entry(path) as group:
        data = nxdata(group, "data", STACK[0], axes=["y", "tof"])
        data["tof"] = edges

    source = described(path)
    image = source.images[0]

    assert coordinate(image, "tof").values.tolist() == ((edges[1:] + edges[:-1]) / 2).tolist()
    assert coordinate(image, "tof").values.dtype == np.float32
    assert coordinate(image, "tof").attributes["bounds"] == "tof_bnds"
    assert coordinate(image, "tof_bnds").values.tolist() == np.stack([edges[:-1], edges[1:]], 1).tolist()
    assert any("edges of bins" in warning for warning in source.warnings)


@pytest.mark.parametrize("length", [1, 7, 8, 11])
def test_an_axis_of_another_length_is_dropped_and_said(path: Path, length: int) -> None:
    with entry(path) as group:
        data = nxdata(group, "data", STACK[0], axes=["y", "x"])
        data["x"] = np.arange(length, dtype=float)

    source = described(path)

    assert [axis.name for axis in source.images[0].axes] == ["y", "x"]
    assert source.images[0].axes[1].spacing is None
    assert not source.images[0].coordinates
    assert f"the axis /entry/data/x has {length} values for 9 pixels and was left out" in source.warnings


@pytest.mark.parametrize("text", ["angle:energy", "[angle,energy]", "angle,energy"])
def test_axes_in_one_text_on_the_signal_are_taken_apart(path: Path, text: str) -> None:
    with entry(path) as group:
        data = nx(group, "data", "NXdata")
        data["counts"] = STACK[0]
        data["counts"].attrs.update({"signal": 1, "axes": text})
        data["angle"], data["energy"] = np.arange(8) * 1.0, np.arange(9) * 2.0

    image = first(path)

    assert [(axis.name, axis.spacing) for axis in image.axes] == [("angle", 1.0), ("energy", 2.0)]


def test_oldest_files_number_the_axes(path: Path) -> None:
    with entry(path) as group:
        data = nx(group, "data", "NXdata")
        data["counts"] = STACK[0]
        data["counts"].attrs["signal"] = 1
        for name, number, primary, step in (("a", 1, 1, 1.0), ("b", 2, 1, 2.0), ("c", 2, 2, 5.0)):
            data[name] = np.arange(8 if number == 1 else 9) * step
            data[name].attrs.update({"axis": number, "primary": primary})

    assert [(axis.name, axis.spacing) for axis in first(path).axes] == [("a", 1.0), ("b", 2.0)]


def test_dimension_scales_name_axes_where_nexus_does_not(path: Path) -> None:
    with entry(path) as group:
        data = nxdata(group, "data", STACK, axes=["energy", ".", "."])
        data["energy"] = np.arange(3) * 1.0
        for name, dim, length in (("rows", 1, 8), ("columns", 2, 9)):
            data[name] = np.arange(length) * 0.1
            data[name].make_scale(name)
            data["data"].dims[dim].attach_scale(data[name])

    image = first(path)

    assert [axis.name for axis in image.axes] == ["energy", "rows", "columns"]
    assert [axis.spacing for axis in image.axes[1:]] == pytest.approx([0.1, 0.1])


def test_dimension_scales_and_labels_name_the_axes_of_plain_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["counts"] = STACK
        for dim, (name, length) in enumerate((("depth", 3), ("lat", 8))):
            file[name] = np.arange(length) * 2.0
            file[name].make_scale()
            file["counts"].dims[dim].attach_scale(file[name])
        file["counts"].dims[2].label = "lon"

    source = described(path)

    assert [image.name for image in source.images] == ["counts"]
    assert [(axis.name, axis.spacing) for axis in source.images[0].axes] == [
        ("depth", 2.0),
        ("lat", 2.0),
        ("lon", None),
    ]


def test_a_time_comes_first_and_has_its_unit(path: Path) -> None:
    with entry(path) as group:
        data = nxdata(group, "data", STACK, axes=["elapsed", "y", "x"])
        data["elapsed"] = np.arange(3) * 5.0
        data["elapsed"].attrs["units"] = "ms"

    axis = first(path).axes[0]

    assert (axis.kind, axis.unit, axis.spacing) == (AxisKind.TIME, "millisecond", 5.0)


def test_colours_last_become_colours_first(path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 255, (8, 9, 3), np.uint8)
    with entry(path) as group:
        nxdata(group, "data", colours)["data"].attrs["interpretation"] = "rgb-image"

    image = first(path)

    assert (image.rgb, image.shape, image.transposed) == (True, (3, 8, 9), (2, 0, 1))
    assert [channel.label for channel in image.channels] == ["red", "green", "blue"]
    np.testing.assert_array_equal(values(path), colours.transpose(2, 0, 1))


def test_more_axes_than_an_image_may_have_become_a_series(path: Path) -> None:
    six = np.arange(2 * 3 * 2 * 4 * 5 * 6).reshape(2, 3, 2, 4, 5, 6)
    with h5py.File(path, "w") as file:
        file["six"] = six

    source = described(path)

    assert len(source.images) == 6
    assert all(len(image.axes) == 4 for image in source.images)
    reader = open_source(path)
    np.testing.assert_array_equal(reader.read(4, whole(source.images[4])), six[1, 1])
    reader.close()


# -- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["attributes", "fields", "bare fields"])
def test_nexus_adds_before_it_multiplies(path: Path, where: str) -> None:
    with entry(path) as group:
        data = nxdata(group, "data", STACK[0], signal="counts")
        for word, number in (("scaling_factor", 0.5), ("offset", -4.0)):
            if where == "attributes":
                data["counts"].attrs[word] = number
            else:
                data[word if where == "bare fields" else f"counts_{word}"] = number

    said = first(path).attributes

    physical = values(path) * said["scale_factor"] + said["add_offset"]
    np.testing.assert_array_equal(physical, (STACK[0] - 4.0) * 0.5)


def test_the_scaling_of_the_signal_is_not_that_of_its_axes(path: Path) -> None:
    with entry(path) as group:
        data = nxdata(group, "data", STACK[0], axes=["y", "x"])
        data["scaling_factor"], data["y"] = 2.0, np.arange(8)
        data["x"] = np.arange(9)
        data["x"].attrs.update({"scaling_factor": 0.1, "offset": 5})

    image = first(path)

    assert image.attributes["scale_factor"] == 2.0
    assert image.axes[0].spacing == 1.0
    assert (image.axes[1].spacing, image.axes[1].origin) == pytest.approx((0.1, 0.5))
    assert "scale_factor" not in coordinate(image, "y").attributes


def test_attributes_that_are_no_utf_8_are_read_all_the_same(path: Path) -> None:
    with entry(path) as group:
        data = nxdata(group, "data", STACK[0], axes=["y", "x"])
        data["y"], data["x"] = np.arange(8) * 0.5, np.arange(9) * 0.5
        data["y"].attrs["units"] = np.bytes_(b"\xb5m")
        raw = h5py.h5t.C_S1.copy()
        raw.set_size(h5py.h5t.VARIABLE)
        raw.set_cset(h5py.h5t.CSET_UTF8)
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        made = h5py.h5a.create(data["x"].id, b"units", raw, space)
        made.write(np.array(b"\xb5m", dtype=h5py.string_dtype()))

    assert [axis.unit for axis in first(path).axes] == ["micrometer", "micrometer"]


def test_a_damaged_attribute_is_left_out_and_the_rest_read(path: Path) -> None:
    with entry(path) as group:
        data = nxdata(group, "data", STACK[0])
        data["data"].attrs["compound"] = np.zeros(2, dtype=[("a", "i4"), ("b", "f8")])
        data["data"].attrs["reference"] = data.ref
        data["data"].attrs["empty"] = h5py.Empty("f")
        data["data"].attrs["units"] = ["counts"]

    assert first(path).attributes["units"] == ["counts"]


# -- links ---------------------------------------------------------------------------------------


def test_hard_and_soft_links_show_an_array_once(path: Path) -> None:
    with entry(path) as group:
        detector = nx(nx(group, "instrument", "NXinstrument"), "detector", "NXdetector")
        detector["frames"] = STACK
        for name, link in (
            ("hard", detector["frames"]),
            ("soft", h5py.SoftLink("/entry/instrument/detector/frames")),
        ):
            nx(group, name, "NXdata", signal="data")["data"] = link

    assert [image.source_name for image in described(path).images] == ["/entry/hard/data"]
    np.testing.assert_array_equal(values(path), STACK)


def test_a_signal_in_a_file_that_is_missing_is_refused_by_that_files_name(path: Path) -> None:
    with entry(path) as group:
        nx(group, "data", "NXdata", signal="data")["data"] = h5py.ExternalLink("frames/0001.h5", "/data")
        group["other"] = STACK

    with pytest.raises(
        UnreadableSource, match=r"scan\.nxs is incomplete: /entry/data/data lies in 'frames/0001\.h5'"
    ):
        open_source(path)
    assert first(path, array="/entry/other").shape == STACK.shape


def test_files_of_one_data_set_are_read_through_their_links(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "frames").mkdir(parents=True)
    with h5py.File(folder / "frames" / "0001.h5", "w") as file:
        file["deep/frames"] = STACK
        file["alias"] = h5py.SoftLink("/deep/frames")
    with entry(folder / "master.nxs") as group:
        nx(group, "data", "NXdata", signal="data")["data"] = h5py.ExternalLink("frames/0001.h5", "/alias")

    source = described(folder)

    assert [image.source_name for image in source.images] == ["/entry/data/data"]
    np.testing.assert_array_equal(values(folder), STACK)


def test_a_view_of_files_of_the_same_data_set_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    layout = h5py.VirtualLayout((3, 8, 9), "i4")
    for number in range(3):
        with h5py.File(folder / f"part{number}.h5", "w") as file:
            file["data"] = STACK[number]
        layout[number] = h5py.VirtualSource(f"part{number}.h5", "data", (8, 9))
    with entry(folder / "a_master.h5") as group:
        data = nx(group, "data", "NXdata", signal="data")
        data.create_virtual_dataset("data", layout)

    assert first(folder).source_name == "/entry/data/data"
    np.testing.assert_array_equal(values(folder), STACK)

    (folder / "part1.h5").unlink()
    with pytest.raises(UnreadableSource, match=r"view of 'part1\.h5', which is missing"):
        open_source(folder)


def test_links_in_circles_end(path: Path) -> None:
    with entry(path) as group:
        group["itself"] = group
        group["a"], group["b"] = h5py.SoftLink("/entry/b"), h5py.SoftLink("/entry/a")
        group["up"] = h5py.SoftLink("/entry/up/up/up")
        nxdata(group, "data", STACK)
        group["data/home"] = h5py.SoftLink("/entry")

    assert [image.source_name for image in described(path).images] == ["/entry/data/data"]


def test_sample_and_instrument_are_part_of_the_metadata(path: Path) -> None:
    with entry(path) as found:
        nxdata(found, "data", FRAME)
        found["title"] = "phonons"
        nx(found, "sample", "NXsample")["chemical_formula"] = "Mg B2"
        nx(found, "ARCS", "NXinstrument")["name"] = ["ARCS"]

    said = described(path).metadata["scan.nxs"]["/entry"]

    assert said["title"] == "phonons"
    assert said["sample/chemical_formula"] == "Mg B2"
    assert said["ARCS/name"] == "ARCS"
