"""The originals of registered data sets, downloaded from where they lie; what changed is on the page."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from portal_site import ME, Site, running_site

from scientistcloud.records import DatasetFile


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "beamline"
    (root / "scan" / "deep").mkdir(parents=True)
    (root / "scan" / "a.tif").write_bytes(b"first")
    (root / "scan" / "deep" / "b.tif").write_bytes(b"second")
    (root / "dark.tif").write_bytes(b"dark")
    (root / "scan" / "dark.tif").symlink_to(root / "dark.tif")
    (tmp_path / "secret").write_bytes(b"secret")
    return root


@pytest.fixture
def site(tmp_path: Path, root: Path) -> Iterator[Site]:
    with running_site(tmp_path / "data", register_roots=str(root)) as site:
        yield site


def registered(site: Site, place: Path, *paths: str, **more: object) -> str:
    uuid = site.add_dataset("scan", place=str(place), **more)
    folder = place if place.is_dir() else place.parent
    site.store.datasets.put_files(
        [
            DatasetFile(dataset_uuid=uuid, path=path, size_bytes=(folder / path).stat().st_size, modified_ns=1)
            for path in paths
        ]
    )
    return uuid


def test_originals_are_downloaded_from_where_they_lie(site: Site, root: Path) -> None:
    uuid = registered(site, root / "scan", "a.tif", "deep/b.tif", "dark.tif")

    with site.program() as client:
        found = {
            path: client.get(f"/data/{uuid}/source/{path}").content for path in ("a.tif", "deep/b.tif", "dark.tif")
        }
        part = client.get(f"/data/{uuid}/source/deep/b.tif", headers={"Range": "bytes=1-3"})
        zipped = zipfile.ZipFile(io.BytesIO(client.get(f"/data/{uuid}/source.zip").content))

    assert found == {"a.tif": b"first", "deep/b.tif": b"second", "dark.tif": b"dark"}
    assert (part.status_code, part.content) == (206, b"eco")
    assert {name: zipped.read(name) for name in zipped.namelist()} == found


def test_a_data_set_of_one_file_gives_that_file_alone(site: Site, root: Path) -> None:
    uuid = registered(site, root / "dark.tif", "dark.tif")

    with site.program() as client:
        assert client.get(f"/data/{uuid}/source/dark.tif").content == b"dark"
        assert client.get(f"/data/{uuid}/source/scan/a.tif").status_code == 404


def test_no_way_leads_out_of_the_root(site: Site, root: Path, tmp_path: Path) -> None:
    uuid = registered(site, root / "scan", "a.tif")
    outside = site.add_dataset("out", place=str(tmp_path))
    (root / "scan" / "way").symlink_to(tmp_path)
    (root / "scan" / "evil.tif").symlink_to(tmp_path / "secret")

    with site.program() as client:
        answers = [
            client.get(f"/data/{uuid}/source/{path}")
            for path in ("evil.tif", "way/secret", "..%2f..%2fsecret", "%2fetc%2fpasswd", "deep")
        ]
        answers.append(client.get(f"/data/{outside}/source/secret"))

    assert {answer.status_code for answer in answers} == {404}
    assert all(answer.content != b"secret" for answer in answers)


def test_what_changed_is_on_the_page_and_in_the_record(site: Site, root: Path) -> None:
    uuid = registered(site, root / "scan", "a.tif", notice="1 file changed (a.tif) since it was registered")

    with site.program() as client:
        row = client.get(f"/api/datasets/{uuid}").json()
    with site.browser() as browser:
        page = browser.get(f"/datasets/{uuid}").text

    assert (row["place"], row["notice"]) == (str(root / "scan"), "1 file changed (a.tif) since it was registered")
    assert "1 file changed (a.tif) since it was registered." in page
    assert str(root / "scan") in page
    assert site.store.datasets.find(user=ME)
