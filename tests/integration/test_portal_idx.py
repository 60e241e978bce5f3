"""A data set whose form is IDX, over HTTP: its files, its preview, and why there is no viewer."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from photograph_files import photograph
from portal_site import Site, running_site

from openvisus_files import needed, read_idx
from scientistcloud.records import DatasetStatus
from scientistcloud.tasks.conversion import convert


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    needed()
    with running_site(tmp_path_factory.mktemp("portal")) as running:
        yield running


@pytest.fixture(scope="module")
def formed(site: Site, tmp_path_factory: pytest.TempPathFactory) -> str:
    source = tmp_path_factory.mktemp("source") / "roof.png"
    photograph(source)
    uuid = site.add_dataset("roof")
    folder = site.settings.folder.dataset(uuid)
    folder.root.mkdir(parents=True)
    form = convert(source, folder.root / "converted.idx", form="idx", preview=folder.preview)
    before = site.store.datasets.get(uuid)
    assert before is not None
    made = form | {"token": 4, "job_id": "made-by-the-test"}
    site.store.datasets.update(before, replace(before, forms=(made,), sensor=form["sensor"]))
    site.add_file(uuid, source.name, source.read_bytes())
    return uuid


def test_its_page_shows_the_preview_and_says_why_there_is_no_viewer(site: Site, formed: str) -> None:
    with site.program() as client:
        page = client.get(f"/datasets/{formed}").text

    assert f'src="/data/{formed}/preview.webp?v=4"' in page
    assert "was converted to IDX, for OpenVisus. The viewer here reads OME-Zarr" in page
    assert "OpenVisus IDX 6" in page
    assert "ov.LoadDataset(" in page
    assert "Worth knowing" in page
    assert "data-address=" not in page


@pytest.mark.parametrize("version", ["", "@4/"])
def test_header_and_blocks_come_as_they_are(version: str, site: Site, formed: str, tmp_path: Path) -> None:
    folder = site.settings.folder.dataset(formed)
    names = ["converted.idx", *(f"converted/{each.name}" for each in (folder.root / "converted").iterdir())]
    with site.program() as client:
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(client.get(f"/data/{formed}/{version}{name}").raise_for_status().content)

    made = read_idx(tmp_path / "converted.idx", tmp_path)
    np.testing.assert_array_equal(made["image@0"], read_idx(folder.root / "converted.idx", tmp_path)["image@0"])


def test_header_and_blocks_come_as_one_zip(site: Site, formed: str, tmp_path: Path) -> None:
    with site.program() as client:
        (tmp_path / "all.zip").write_bytes(client.get(f"/data/{formed}/converted.zip").raise_for_status().content)

    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.namelist()[0] == "converted.idx"
        archive.extractall(tmp_path / "all")
    assert read_idx(tmp_path / "all/converted.idx", tmp_path)["image@0"].shape == (48, 64, 3)


def test_it_is_asked_for_and_given_back_on_the_page(site: Site, formed: str) -> None:
    with site.browser() as browser:
        page = browser.get(f"/datasets/{formed}").text
        csrf = site.csrf(browser)
        browser.post(f"/datasets/{formed}/convert", data={"csrf_token": csrf, "request": "a", "format": ""})
        browser.post(f"/datasets/{formed}/convert", data={"csrf_token": csrf, "request": "b", "format": "idx"})
    jobs = site.store.jobs.find(dataset_uuid=formed, limit=10)

    assert '<option value="idx" selected>IDX, for OpenVisus</option>' in page
    assert [job.parameters.get("format") for job in jobs] == [None, "idx"]


def test_the_page_of_a_camera_that_is_not_known_lets_the_question_be_answered(site: Site) -> None:
    uuid = site.add_dataset("mapir", status=DatasetStatus.CONVERSION_ERROR, sensor="auto")
    with site.browser() as browser:
        page = browser.get(f"/datasets/{uuid}").text
        csrf = site.csrf(browser)
        browser.post(f"/datasets/{uuid}/convert", data={"csrf_token": csrf, "sensor": "MAPIR", "bands": "OCN"})
    (job,) = site.store.jobs.find(dataset_uuid=uuid, limit=10)

    assert "Filter of a MAPIR camera" in page
    assert (job.parameters["sensor_type"], job.parameters["bands"]) == ("MAPIR", "OCN")


def test_nothing_else_of_its_folder_comes(site: Site, formed: str) -> None:
    with site.program() as client:
        for path in ("@4/source/roof.png", "@4/.guard", "converted/../.guard", "@3/converted.idx", ".guard"):
            assert client.get(f"/data/{formed}/{path}").status_code == 404, path


def test_there_is_no_view_of_it(site: Site, formed: str) -> None:
    with site.program() as client:
        answer = client.get(f"/view-data/{formed}/@4/image/zarr.json")

    assert answer.status_code == 404
    assert "was converted to IDX, which has no view here" in answer.json()["detail"]


def test_the_list_shows_it(site: Site, formed: str) -> None:
    with site.program() as client:
        assert f"/data/{formed}/preview.webp" in client.get("/").text
