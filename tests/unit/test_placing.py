"""Files in their places: what is in the way, and syncs that are shared."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from scientistcloud.errors import InvalidParameters
from scientistcloud.layout import DataFolder
from scientistcloud.uploads import placing
from scientistcloud.uploads.placing import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(DataFolder(tmp_path))


def arrived(tmp_path: Path, content: bytes = b"abc") -> Path:
    data = tmp_path / "arrived"
    data.write_bytes(content)
    return data


def test_a_file_comes_to_its_place_and_leaves_no_empty_folder_behind(places: Places, tmp_path: Path) -> None:
    place = places.of("u", "scan 1/deep/a.tif")
    places.put(arrived(tmp_path), place)
    places.put(arrived(tmp_path), places.of("u", "scan 1/b.tif"))

    places.remove("u", "scan 1/deep/a.tif")
    places.remove("u", "scan 1/deep/a.tif")

    source = DataFolder(tmp_path).dataset("u").source
    assert sorted(each.relative_to(source).as_posix() for each in source.rglob("*")) == ["scan 1", "scan 1/b.tif"]
    places.remove("u", "scan 1/b.tif")
    assert list(source.iterdir()) == []
    places.put(arrived(tmp_path), place)  # the folder is made again
    assert place.read_bytes() == b"abc"


def test_a_name_that_is_a_folder_of_another_file_is_refused(places: Places, tmp_path: Path) -> None:
    places.put(arrived(tmp_path), places.of("u", "scan/a.tif"))

    places.require("u", ["scan/a.tif", "scan/b.tif", "other/c.tif"])
    for path in ("scan", "scan/a.tif/deeper", "scan/a.tif/deeper/still"):
        with pytest.raises(InvalidParameters, match="as a folder"):
            places.require("u", ["fine.tif", path])


def test_threads_that_need_a_sync_at_once_share_one_that_began_after_them(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go = threading.Event(), threading.Event()
    synced: list[set[str]] = []

    def slow(folder: Path) -> None:
        names = {each.name for each in folder.iterdir()}  # what this sync makes durable
        if folder.name == "source":
            began.set()
            assert go.wait(60)
            synced.append(names)

    monkeypatch.setattr(placing, "sync_folder", slow)
    waiting = threading.Semaphore(0)

    def put(number: int) -> None:
        data = tmp_path / f"arrived {number}"
        data.write_bytes(b"x")
        waiting.release()
        places.put(data, places.of("u", f"{number}.tif"))
        assert any(f"{number}.tif" in names for names in synced)

    first = threading.Thread(target=put, args=(0,))
    first.start()
    assert began.wait(60)
    others = [threading.Thread(target=put, args=(number,)) for number in range(1, 9)]
    for thread in others:
        thread.start()
    source = DataFolder(tmp_path).dataset("u").source
    while len(list(source.iterdir())) < 9:  # all are renamed, and wait
        pass
    go.set()
    for thread in (first, *others):
        thread.join(60)

    assert 2 <= len(synced) <= 4  # not nine
    assert len(synced[-1]) == 9
