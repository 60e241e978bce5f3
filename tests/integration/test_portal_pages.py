"""What the pages say, and that their words hold."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from photograph_files import photograph
from portal_site import TOKEN, Site, running_site

from scientistcloud.portal.forms import Histogram
from scientistcloud.portal.pages.panel import evened, outline
from scientistcloud.portal.pages.rendering import number, seconds, size
from scientistcloud.records import DatasetStatus
from scientistcloud.tasks.conversion import convert


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("portal")) as running:
        yield running


@pytest.fixture(scope="module")
def formed(site: Site, tmp_path_factory: pytest.TempPathFactory) -> str:
    source = tmp_path_factory.mktemp("source") / "field.tif"
    tifffile.imwrite(source, np.arange(300 * 200, dtype=np.uint16).reshape(300, 200))
    return site.add_form(source)


@pytest.mark.parametrize(("title", "public"), [("This machine", False), ("Anywhere", False), ("Anywhere", True)])
def test_the_lines_of_python_on_the_page_work_as_they_stand(
    site: Site, formed: str, title: str, public: bool, tmp_path: Path
) -> None:
    site.store.datasets.describe(formed, public=public)
    with site.stranger() if public else site.program() as client:
        page = client.get(f"/datasets/{formed}").text
    assert ("TOKEN" in page) == (not public)
    found = re.search(rf"<h3>{title}</h3>.*?<pre[^>]*>(.*?)</pre>", page, flags=re.DOTALL)
    assert found is not None
    code = html.unescape(found[1]).replace("TOKEN", TOKEN).rstrip()
    *before, last = code.splitlines()
    program = tmp_path / "snippet.py"
    program.write_text("\n".join([*before, f"value = {last}", "print(int(value[7, 11]), value.shape)"]))

    said = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=120, env=dict(os.environ)
    )

    assert said.returncode == 0, said.stderr
    assert said.stdout.split(" ", 1) == [str(7 * 200 + 11), "(300, 200)\n"]


def test_each_status_has_its_words(site: Site) -> None:
    with site.program() as client:
        for status in DatasetStatus:
            uuid = site.add_dataset(
                f"is {status}", status=status, error="the reason" if "error" in status else None
            )
            page = client.get(f"/datasets/{uuid}")
            assert page.status_code == 200
            assert f"is {status}" in page.text
            assert ("he reason" in page.text) == ("error" in status)


def test_the_list_of_nothing_says_what_to_do(tmp_path: Path) -> None:
    with running_site(tmp_path) as empty, empty.program() as client:
        assert "Drop a file on this page" in client.get("/").text
        assert "No jobs yet" in client.get("/jobs").text


def test_a_long_list_comes_in_pages(site: Site) -> None:
    for index in range(60):
        site.add_dataset(f"paged {index:02d}")
    seen: list[str] = []
    address: str | None = "/?q=paged"
    with site.program() as client:
        while address is not None:
            page = client.get(address).text
            seen += re.findall(r'class="title">paged (\d\d)<', page)
            more = re.search(r'href="(/\?[^"]*after=[^"]*)"', page)
            address = html.unescape(more[1]) if more else None

    assert sorted(seen) == [f"{index:02d}" for index in range(60)]


def test_files_of_a_data_set_are_listed_with_their_sizes_in_pages(site: Site) -> None:
    uuid = site.add_dataset("many files")
    for index in range(205):
        site.add_file(uuid, f"part_{index:03d}.tif", b"x" * 1500)
    with site.program() as client:
        first = client.get(f"/datasets/{uuid}").text
        rest = client.get(f"/datasets/{uuid}", params={"after": "part_199.tif"}).text

    assert first.count('<td class="path">') == 200
    assert "1.5\N{NO-BREAK SPACE}kB" in first
    assert re.findall(r"<span>(part_\d+\.tif)</span>", rest) == [f"part_{index}.tif" for index in range(200, 205)]


@pytest.mark.parametrize(
    ("bytes_", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (81_300_000, "81 MB"),
        (1.2e12, "1.2 TB"),
        (5e15, "5000 TB"),
    ],
)
def test_sizes_are_written_for_people(bytes_: float, words: str) -> None:
    assert size(bytes_).replace("\N{NO-BREAK SPACE}", " ") == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (751, "751"),
        (4096, "4096"),
        (65536, "65 536"),
        (0.018, "0.018"),
        (2.5, "2.5"),
        (1.5e-7, "1.5e-07"),
        (-3.25, "-3.25"),
    ],
)
def test_numbers_are_written_for_people(value: float, words: str) -> None:
    assert number(value).replace("\N{NARROW NO-BREAK SPACE}", " ") == words


@pytest.mark.parametrize(
    ("value", "words"), [(0.82, "0.8 s"), (42, "42 s"), (252, "4 min 12 s"), (11_100, "3 h 05 min")]
)
def test_durations_are_written_for_people(value: float, words: str) -> None:
    assert seconds(value).replace("\N{NO-BREAK SPACE}", " ") == words


@pytest.mark.parametrize("highest", [3, 24, 99, 255, 300, 1000])
def test_the_histogram_of_whole_numbers_is_no_comb(highest: int) -> None:
    """Of numbers that occur equally often it is flat, however many fall into one of its bins."""
    counts, edges = np.histogram(np.repeat(np.arange(highest + 1), 5), bins=64)

    even = evened(Histogram(low=edges[0], high=edges[-1], counts=tuple(counts.tolist())))

    assert even == pytest.approx((5,) * 64)


def test_the_outline_of_a_histogram_is_as_tall_as_its_roots() -> None:
    path = outline((0, 4, 16, 1))

    assert path == "M0 64V64.0H64.0V33.0H128.0V2.0H192.0V48.5H256.0V64.0V64Z"


def test_a_series_of_photographs_is_walked_through(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "survey"
    for taken in range(3):
        photograph(folder / f"DJI_{taken}.jpg", place=taken == 1, make="MAPIR", model="Survey3W_RGN")
    uuid = site.add_dataset("survey")
    place = site.settings.folder.dataset(uuid)
    place.root.mkdir(parents=True)
    form = convert(folder, place.converted, preview=place.preview)
    before = site.store.datasets.get(uuid)
    assert before is not None
    site.store.datasets.update(before, replace(before, forms=(form | {"token": 1, "job_id": "a"},)))

    with site.program() as client:
        first = client.get(f"/datasets/{uuid}").text
        index = client.get(f"/datasets/{uuid}?variable=1.DJI_1_ndvi").text

    assert '<label for="variable">Image</label><output for="variable">1 of 6</output>' in first
    assert 'aria-label="Image before"' not in first
    assert f'href="/datasets/{uuid}?variable=0.DJI_0_ndvi" aria-label="Next image"' in first
    assert "<dt>Taken at</dt>" not in first
    assert "<dt>Taken at</dt><dd>-12.51000, -76.75000</dd>" in index
    assert "NIR 850 nm − red 660 nm)/(NIR 850 nm + red 660 nm), uncalibrated</dd>" in index


def test_a_first_look_can_be_converted_with_one_click_and_takes_no_files(site: Site, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "scan.tif", np.zeros((64, 48), np.uint16))
    uuid = site.add_form(tmp_path / "scan.tif", closed_at=site.store.clock.now(), place="/beamline/scan.tif")
    before = site.store.datasets.get(uuid)
    assert before is not None
    with site.program() as client:
        page = client.get(f"/datasets/{uuid}").text
        assert "A first look" not in page
        assert f"/data/{uuid}/converted.zip" in page

        site.store.datasets.update(before, replace(before, forms=({**before.forms[0], "look": True},)))

        page = client.get(f"/datasets/{uuid}").text
        assert "A first look, made of some of the pixels." in page
        assert f'action="/datasets/{uuid}/convert"' in page
        assert "Convert all of it" in page
        assert "Add or remove files" not in page
        assert "converted.zip" not in page
        for address in (f"/data/{uuid}/converted.zip", f"/api/datasets/{uuid}/form"):
            refused = client.get(address)
            assert refused.status_code == 404
            assert "only a first look at some of its pixels; convert it on its page" in refused.json()["detail"]


def test_what_the_files_say_of_themselves_is_shown_and_found(site: Site, tmp_path: Path) -> None:
    source = tmp_path / "cells.tif"
    tifffile.imwrite(source, np.zeros((32, 32), "u1"), software="Axio <b>Imager</b>", metadata=None)
    uuid = site.add_form(source)
    site.add_dataset("another")
    with site.program() as client:
        page = client.get(f"/datasets/{uuid}").text
        found = client.get("/api/datasets", params={"text": "axio <B>"}).json()["datasets"]

    assert '<th scope="row">Software</th><td>Axio &lt;b&gt;Imager&lt;/b&gt;</td>' in page
    assert [each["uuid"] for each in found] == [uuid]


def test_variables_of_one_image_are_no_series(site: Site, formed: str) -> None:
    with site.program() as client:
        assert "Next image" not in client.get(f"/datasets/{formed}").text


def test_it_is_described_and_shared_by_forms_that_need_no_script(site: Site) -> None:
    uuid = site.add_dataset("old", size_bytes=5)
    with site.browser() as browser:
        proof = {"csrf_token": site.csrf(browser)}
        said = {"name": "new", "description": "a\r\nb", "tags": "heart, , mouse"}
        browser.post(f"/datasets/{uuid}/describe", data=proof | said)
        browser.post(f"/datasets/{uuid}/share", data=proof | {"public": "true"})
        with site.stranger() as stranger:
            seen = stranger.get(f"/datasets/{uuid}")
            assert seen.status_code == 200
            assert "/share" not in seen.text
            assert "/describe" not in seen.text
            browser.post(f"/datasets/{uuid}/share", data=proof | {"public": "false"})
            assert stranger.get(f"/datasets/{uuid}").status_code == 404

    now = site.store.datasets.get(uuid)
    assert now is not None
    assert (now.name, now.description.split(), now.tags, now.public) == (
        "new",
        ["a", "b"],
        ("heart", "mouse"),
        False,
    )
