"""HDF5 that leads to files of the server, by every way that the format has: resolved first, and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest

from scientistcloud.converters.registry import open_source
from scientistcloud.errors import SourceError, UnreadableSource, UnsafeSource, UnsupportedSource
from scientistcloud.tasks.conversion import compare, convert

SECRET = b"root:x:0:0:the server's own file:/root:/bin/sh\n" * 20


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Files of the server, outside of any data set: a text, and an HDF5 file beside it."""
    (tmp_path / "secret").write_bytes(SECRET)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["v"] = np.full((4, 5), 42, np.uint8)
    return tmp_path / "secret"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    with h5py.File(folder / "hostile.h5", "w") as file:
        file["counts"] = np.zeros((4, 5))
    return folder / "hostile.h5"


Attack = Callable[[h5py.File, Path], None]


def stored_at(file: h5py.File, name: str) -> None:
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_external(name.encode(), 0, 20)
    h5py.h5d.create(file.id, b"v", h5py.h5t.STD_U8LE, h5py.h5s.create_simple((4, 5)), plan)


def seen_in(file: h5py.File, name: str) -> None:
    layout = h5py.VirtualLayout((4, 5), "u1")
    layout[:] = h5py.VirtualSource(name, "v", (4, 5))
    file.create_virtual_dataset("w", layout)


def seen_by_a_pattern(file: h5py.File, name: str) -> None:
    """`%b` in the name is the number of the block, of which there are as many as there are files."""
    many = h5py.h5s.UNLIMITED
    space = h5py.h5s.create_simple((1, 4, 5), (many, 4, 5))
    space.select_hyperslab((0, 0, 0), (many, 1, 1), stride=(1, 4, 5), block=(1, 4, 5))
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_virtual(space, name.encode(), b"v", h5py.h5s.create_simple((1, 4, 5)))
    h5py.h5d.create(file.id, b"w", h5py.h5t.STD_U8LE, h5py.h5s.create_simple((1, 4, 5), (many, 4, 5)), plan)


ATTACKS: dict[str, Attack] = {
    "storage by its full name": lambda file, secret: stored_at(file, str(secret)),
    "storage a folder up": lambda file, secret: stored_at(file, "../secret"),
    "a link by its full name": lambda file, secret: file.__setitem__("l", h5py.ExternalLink(f"{secret}.h5", "/v")),
    "a link a folder up": lambda file, secret: file.__setitem__("l", h5py.ExternalLink("../secret.h5", "/v")),
    "a link down and up": lambda file, secret: file.__setitem__("l", h5py.ExternalLink("a/../../secret.h5", "/v")),
    "a link deep in groups": lambda file, secret: file.__setitem__("a/b/c", h5py.ExternalLink(f"{secret}.h5", "/")),
    "a link to an address": lambda file, secret: file.__setitem__("l", h5py.ExternalLink("s3://bucket/k.h5", "/v")),
    "a link to a drive": lambda file, secret: file.__setitem__("l", h5py.ExternalLink("C:\\secret.h5", "/v")),
    "a view by its full name": lambda file, secret: seen_in(file, f"{secret}.h5"),
    "a view a folder up": lambda file, secret: seen_in(file, "../secret.h5"),
    "a view by a pattern": lambda file, secret: seen_by_a_pattern(file, "../secret%b.h5"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_file_that_leads_out_of_its_data_set_is_refused(path: Path, secret: Path, attack: str) -> None:
    with h5py.File(path, "r+") as file:
        ATTACKS[attack](file, secret)

    for opened in (path, path.parent):
        with pytest.raises(UnsafeSource, match=r"hostile\.h5 names another file") as refused:
            open_source(opened)
        assert "\n" not in str(refused.value)


def test_the_attacks_would_work_on_the_library_itself(path: Path, secret: Path) -> None:
    with h5py.File(path, "r+") as file:
        stored_at(file, str(secret))
        seen_in(file, "../secret.h5")
        file["l"] = h5py.ExternalLink("../secret.h5", "/v")

    with h5py.File(path) as file:
        assert bytes(file["v"][:].ravel()) == SECRET[:20]
        assert file["w"][0, 0] == file["l"][0, 0] == 42


def test_a_symbolic_link_in_the_data_set_does_not_help(path: Path, secret: Path) -> None:
    (path.parent / "inside.h5").symlink_to(secret.with_suffix(".h5"))
    with h5py.File(path, "r+") as file:
        file["l"] = h5py.ExternalLink("inside.h5", "/v")

    with pytest.raises(UnsafeSource):
        open_source(path)


def test_a_file_behind_a_harmless_link_is_looked_through_too(path: Path, secret: Path) -> None:
    with h5py.File(path.parent / "second.h5", "w") as file:
        stored_at(file, str(secret))
    with h5py.File(path, "r+") as file:
        file["l"] = h5py.ExternalLink("second.h5", "/v")

    with pytest.raises(UnsafeSource, match=r"second\.h5 names another file"):
        open_source(path)


def test_a_file_behind_a_harmless_view_is_looked_through_too(path: Path, secret: Path) -> None:
    with h5py.File(path.parent / "second.h5", "w") as file:
        file["v"] = h5py.ExternalLink(f"{secret}.h5", "/v")
    with h5py.File(path, "r+") as file:
        seen_in(file, "second.h5")

    with pytest.raises(UnsafeSource, match=r"second\.h5 names another file"):
        open_source(path)


def test_a_chain_from_a_view_through_links_is_looked_through_to_its_end(path: Path, secret: Path) -> None:
    """The library follows what a view is made of by itself, links included."""
    for name, leads_to in (("third.h5", f"{secret}.h5"), ("second.h5", "third.h5")):
        with h5py.File(path.parent / name, "w") as file:
            file["v"] = h5py.ExternalLink(leads_to, "/v")
    with h5py.File(path, "r+") as file:
        seen_in(file, "second.h5")

    with h5py.File(path) as file:
        assert file["w"][0, 0] == 42  # so it is with the library alone
    with pytest.raises(UnsafeSource, match=r"third\.h5 names another file"):
        open_source(path)


def test_each_file_of_a_view_by_a_pattern_is_looked_through(path: Path, secret: Path) -> None:
    for number in range(3):
        with h5py.File(path.parent / f"part{number}.h5", "w") as file:
            file["v"] = h5py.ExternalLink(f"{secret}.h5", "/v") if number == 2 else np.zeros((1, 4, 5), "u1")
    with h5py.File(path, "r+") as file:
        seen_by_a_pattern(file, "part%b.h5")

    with pytest.raises(UnsafeSource, match=r"part2\.h5 names another file"):
        open_source(path)


def test_a_file_behind_a_view_and_a_link_is_not_taken_from_the_working_folder(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["v"] = np.full((4, 5), 42, np.uint8)
    with h5py.File(path.parent / "second.h5", "w") as file:
        file["v"] = h5py.ExternalLink("part.h5", "/v")
    with h5py.File(path, "r+") as file:
        seen_in(file, "second.h5")
    monkeypatch.chdir(tmp_path)

    with h5py.File(path) as file:
        assert file["w"][0, 0] == 42
    with pytest.raises(UnreadableSource, match=r"part\.h5 is missing"):
        open_source(path)


def test_a_file_of_that_name_in_the_working_folder_is_not_taken(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where a file is missing beside the one that names it, the library looks into the working folder.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with h5py.File(elsewhere / "part.h5", "w") as file:
        file["v"] = np.full((4, 5), 42, np.uint8)
    with h5py.File(path, "r+") as file:
        del file["counts"]
        file["l"] = h5py.ExternalLink("part.h5", "/v")
        seen_in(file, "part.h5")
    monkeypatch.chdir(elsewhere)

    with h5py.File(path) as file:
        assert file["l"][0, 0] == file["w"][0, 0] == 42
    with pytest.raises(SourceError, match=r"part\.h5"):
        open_source(path)


# -- storage beside the file -----------------------------------------------------------------------

STORED = np.arange(20, dtype=">u2").reshape(4, 5)
WHOLE = (slice(0, 4), slice(0, 5))


def stored_beside(path: Path) -> None:
    """Values in two files: 12 bytes behind a header of 3, the rest, as much as there is, in another."""
    (path.parent / "raw").mkdir()
    (path.parent / "raw/one.bin").write_bytes(b"abc" + STORED.tobytes()[:12] + b"tail")
    (path.parent / "raw/two.bin").write_bytes(STORED.tobytes()[12:])
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_external(b"raw/one.bin", 3, 12)
    plan.set_external(b"raw/two.bin", 0, h5py.h5s.UNLIMITED)
    with h5py.File(path, "r+") as file:
        del file["counts"]
        h5py.h5d.create(file.id, b"v", h5py.h5t.STD_U16BE, h5py.h5s.create_simple((4, 5)), plan)


def test_storage_beside_the_file_is_read_wherever_one_stands(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored_beside(path)
    monkeypatch.chdir(path.parent)  # where the library would look for it
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["v"][()], STORED)
    monkeypatch.chdir(tmp_path)

    made = convert(path.parent, tmp_path / "a.ome.zarr")
    reader = open_source(path)
    part = reader.read(0, (slice(1, 3), slice(2, 5)))
    reader.close()

    assert made["warnings"] == []
    assert compare(tmp_path / "a.ome.zarr", path) == STORED.size
    np.testing.assert_array_equal(part, STORED[1:3, 2:5])


def test_storage_that_is_missing_or_too_short_is_named(path: Path) -> None:
    stored_beside(path)
    two = path.parent / "raw/two.bin"

    two.write_bytes(b"short")
    with pytest.raises(
        UnreadableSource, match=r"hostile\.h5 .*/v needs 40 bytes and two\.bin ends after 17 of them"
    ):
        open_source(path)
    two.unlink()
    with pytest.raises(UnreadableSource, match=r"/v is stored in 'raw/two\.bin', which is missing"):
        open_source(path)


def test_storage_that_is_a_link_out_of_the_data_set_is_refused(path: Path, secret: Path) -> None:
    stored_beside(path)
    (path.parent / "raw/two.bin").unlink()
    (path.parent / "raw/two.bin").symlink_to(secret)

    with pytest.raises(UnsafeSource, match=r"/v is stored in 'raw/two\.bin'"):
        open_source(path)


def test_storage_that_changes_while_it_is_read_is_noticed(path: Path) -> None:
    stored_beside(path)
    reader = open_source(path)
    reader.read(0, WHOLE)

    (path.parent / "raw/two.bin").write_bytes(bytes(60))

    with pytest.raises(UnreadableSource, match=r"two\.bin changed while it was read"):
        reader.read(0, WHOLE)
    reader.close()


def test_a_view_of_what_is_stored_beside_the_file_is_refused(path: Path) -> None:
    """The library would read it, and take the name from the working folder."""
    stored_beside(path)
    with h5py.File(path, "r+") as file:
        layout = h5py.VirtualLayout((4, 5), ">u2")
        layout[:] = h5py.VirtualSource(".", "v", (4, 5))
        file.create_virtual_dataset("w", layout)

    with pytest.raises(
        UnsupportedSource, match=r"hostile\.h5: where values lie in a file beside it, views are not"
    ):
        open_source(path)


def test_a_link_of_a_kind_of_somebodys_own_is_refused(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        file["thelinkname"] = h5py.SoftLink("/counts")
    content = bytearray(path.read_bytes())
    # The link's message: version 1, flags (bit 3: a type follows), type 1 (soft), length of the name, the name.
    at = content.index(b"\x01\x08\x01\x0bthelinkname")
    content[at + 2] = 70
    header = content.rindex(b"OHDR", 0, at)
    end = header + 7 + content[header + 6]
    made = imagecodecs.h5checksum_metadata(bytes(content[header:end]))
    path.write_bytes(content[:end] + int(made).to_bytes(4, "little") + content[end + 4 :])

    with pytest.raises(UnsafeSource, match=r"hostile\.h5 has a link of an unknown kind: /thelinkname"):
        open_source(path)


def test_groups_deeper_than_anybody_needs_are_refused(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["/".join("g" * 100)] = np.zeros((2, 2))

    with pytest.raises(UnsupportedSource, match="deep in each other"):
        open_source(path)
