"""The catalogue of what is public, as people without a log-in find it."""

from __future__ import annotations

import html
import json
import multiprocessing
import os
import re
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile
from portal_site import SOMEBODY_ELSE, Site, running_site

from scientistcloud.errors import Unavailable
from scientistcloud.portal.decoding import Decoding
from scientistcloud.portal.pages.datasets import PAGE_CARDS

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("portal")) as running:
        yield running


@pytest.fixture(scope="module")
def formed(site: Site, tmp_path_factory: pytest.TempPathFactory) -> str:
    source = tmp_path_factory.mktemp("source") / "field.tif"
    tifffile.imwrite(source, np.arange(300 * 200, dtype=np.float64).reshape(300, 200))
    return site.add_form(source, HOSTILE, description=HOSTILE, public=True, user=SOMEBODY_ELSE)


def titles(page: str) -> list[str]:
    return [html.unescape(each) for each in re.findall(r'class="title">(.*?)</span>', page)]


def test_where_nothing_is_public_the_catalogue_says_so_and_where_to_go(tmp_path: Path) -> None:
    with running_site(tmp_path) as empty, empty.stranger() as reader, empty.browser() as owner:
        empty.add_dataset("private", size_bytes=1)

        assert "Nothing is public yet" in reader.get("/public").text
        assert 'href="/login"' in reader.get("/public").text
        assert 'href="/">To your data sets' in owner.get("/public").text
        assert reader.get("/api/public").json() == {"success": True, "total": 0, "sensors": {}, "datasets": []}


def test_the_catalogue_is_searched_narrowed_and_turned_page_by_page(tmp_path: Path) -> None:
    with running_site(tmp_path) as site, site.stranger() as reader:
        for index in range(PAGE_CARDS + 2):
            kind = "NETCDF" if index % 2 else "TIFF"
            site.add_dataset(f"paged {index:02d}", public=True, size_bytes=1, sensor=kind, user=SOMEBODY_ELSE)
        site.add_dataset("paged in private", size_bytes=1)
        site.add_dataset("another", public=True, size_bytes=1, tags=("Größe",))
        seen: list[str] = []
        address: str | None = "/public?q=PAGED"
        while address is not None:
            page = reader.get(address).text
            seen += titles(page)
            more = re.search(r'href="(/public\?[^"]*after=[^"]*)"', page)
            address = html.unescape(more[1]) if more else None

        assert seen == [f"paged {index:02d}" for index in reversed(range(PAGE_CARDS + 2))]
        assert titles(reader.get("/public?q=grösse").text) == ["another"]
        assert titles(reader.get("/public?q=paged+0&sensor=NETCDF").text) == [
            f"paged 0{index}" for index in (9, 7, 5, 3, 1)
        ]
        assert "Nothing matches “zebra”" in reader.get("/public?q=zebra").text

        first = reader.get("/api/public", params={"text": "paged", "limit": 3}).json()
        second = reader.get(
            "/api/public", params={"text": "paged", "limit": 1, "after": first["datasets"][-1]["uuid"]}
        )
        assert [each["name"] for each in first["datasets"]] == seen[:3]
        assert [each["name"] for each in second.json()["datasets"]] == seen[3:4]
        assert (first["total"], first["sensors"]) == (PAGE_CARDS + 3, {"NETCDF": 25, "TIFF": 26})


def test_what_people_write_stays_text_in_the_catalogue(site: Site, formed: str) -> None:
    with site.stranger() as reader:
        for path in ("/public", f"/public?q={HOSTILE}&sensor={HOSTILE}", f"/datasets/{formed}"):
            page = reader.get(path).text

            assert "<script>alert" not in page
            assert "<img src=x" not in page
            assert html.escape(HOSTILE, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page


def test_a_public_data_set_is_looked_at_and_fetched_without_a_log_in(site: Site, formed: str) -> None:
    with site.stranger() as reader:
        form = reader.get(f"/api/datasets/{formed}").json()["forms"][-1]
        at = f"@{form['token']}"
        view = reader.get(f"/view/{formed}")
        fetched = {
            path: reader.get(path)
            for path in (
                f"/datasets/{formed}",
                view.headers["location"],
                f"/data/{formed}/preview.webp",
                f"/data/{formed}/source/field.tif",
                f"/data/{formed}/source.zip",
                f"/data/{formed}/converted.zip",
                f"/data/{formed}/converted.ome.zarr/zarr.json",
                f"/data/{formed}/{at}/zarr.json",
                f"/view-data/{formed}/{at}/image/zarr.json",
                f"/view-data/{formed}/{at}/image/0/image/c/0/0",
                f"/view-data/{formed}/{at}/image/value?at=7,11",
                f"/api/datasets/{formed}/files",
            )
        }
        state = reader.post(f"/view/{formed}/state/{form['token']}.image", json={"c": "c", "g": 1, "s": {}})

    assert view.status_code == 303
    assert {path: answer.status_code for path, answer in fetched.items() if answer.status_code != 200} == {}
    assert fetched[f"/view-data/{formed}/{at}/image/value?at=7,11"].json()["value"] == str(float(7 * 200 + 11))
    assert state.json() == {"g": "c/1"}
    for answer in fetched.values():
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "set-cookie" not in answer.headers


def test_the_page_of_what_is_public_says_how_to_cite_and_to_fetch_it(
    site: Site, formed: str, tmp_path: Path
) -> None:
    with site.stranger() as reader:
        page = reader.get(f"/datasets/{formed}").text
    data = re.findall(r'<script type="application/ld\+json">(.*?)</script>', page)
    fetching = re.search(r'aria-label="Shell">(.*?)</pre>', page, flags=re.DOTALL)

    assert len(data) == 1
    assert json.loads(data[0])["name"] == HOSTILE
    assert json.loads(data[0])["description"] == HOSTILE
    assert f'rel="canonical" href="{site.url}/datasets/{formed}"' in page
    assert f"url          = {{{site.url}/datasets/{formed}}}" in html.unescape(page)
    assert fetching is not None
    command, wget = html.unescape(fetching[1]).split("# or\n")
    address = f"{site.url}/data/{formed}/source/field.tif"
    assert shlex.split(command.replace("\\\n", "")) == ["curl", "-fL", "-C", "-", "-o", "./field.tif", address]
    assert shlex.split(wget) == ["wget", "-c", address]


def test_a_private_data_set_says_nothing_of_citing(site: Site) -> None:
    mine = site.add_dataset("mine", description="Mine alone.")
    with site.program() as owner:
        page = owner.get(f"/datasets/{mine}").text

    assert "Mine alone." in page
    for part in ("ld+json", "BibTeX", "canonical", "og:title"):
        assert part not in page


def test_what_was_public_is_gone_for_others_at_once(site: Site, tmp_path: Path) -> None:
    uuid = site.add_dataset("for a while", public=True)
    site.add_file(uuid, "a.tif", b"for a while")
    paths = (f"/datasets/{uuid}", f"/data/{uuid}/source/a.tif", f"/api/datasets/{uuid}")
    with site.stranger() as reader, site.program() as owner:
        assert [reader.get(path).status_code for path in paths] == [200, 200, 200]

        owner.patch(f"/api/datasets/{uuid}", json={"public": False})

        assert [reader.get(path).status_code for path in paths] == [404, 404, 404]
        assert [owner.get(path).status_code for path in paths] == [200, 200, 200]
        assert f'href="/login?next=/datasets/{uuid}"' in reader.get(f"/datasets/{uuid}").text


def test_a_page_whose_log_in_has_ended_leads_to_the_log_in(site: Site) -> None:
    mine = site.add_dataset("mine")
    with site.stranger() as reader:
        answer = reader.get(f"/datasets/{mine}", headers={"HX-Request": "true"})

    assert answer.headers["hx-redirect"] == "/login"


@contextmanager
def standing_still() -> Iterator[None]:
    """The processes that decode do nothing meanwhile."""
    processes = [child.pid for child in multiprocessing.active_children() if child.pid]
    assert processes
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_readers_without_a_log_in_leave_places_for_the_others(site: Site, formed: str) -> None:
    """Of more of them than there are places some are sent away, and come again; an owner is still let in."""
    address = f"/view-data/{formed}/@1/image/value?at=7,11"
    site.store.datasets.describe(mine := site.add_form(_source_of(site, formed)), public=False)
    own = f"/view-data/{mine}/@1/image/value?at=7,11"
    with site.stranger() as reader, site.program() as owner, ThreadPoolExecutor(40) as pool:
        # Two at a time, so that there are both processes.
        assert {each.result().status_code for each in [pool.submit(reader.get, address) for _ in range(8)]} == {200}
        with standing_still():
            asked = [pool.submit(reader.get, address) for _ in range(24)]
            until(lambda: sum(each.done() for each in asked) >= 8)
            answered = pool.submit(owner.get, own)
            refused = [each.result() for each in asked if each.done()]
        statuses = [each.result().status_code for each in asked]

        assert {each.status_code for each in refused} == {503}
        assert all(each.headers["retry-after"] for each in refused)
        assert sorted(statuses) == [200] * 16 + [503] * 8
        assert answered.result().status_code == 200


def test_of_what_takes_long_readers_have_one_at_a_time(site: Site, formed: str) -> None:
    array = site.settings.folder.dataset(formed).converted / "0" / "image"
    decoding = Decoding(processes=1)
    readers = decoding.for_readers(wait_seconds=0)
    try:
        whole = decoding.whole_image(array, token="1")
        with ThreadPoolExecutor(4) as pool:
            with standing_still():
                asked = [pool.submit(readers.whole_image, array, token="1") for _ in range(2)]
                until(lambda: any(each.done() for each in asked))
                quick = pool.submit(readers.value, array, (7, 11), token="1", part="value")
                owner = pool.submit(decoding.whole_image, array, token="1")
            refused, first = sorted(asked, key=lambda each: each.exception() is None)
            with pytest.raises(Unavailable):
                refused.result()
            assert first.result() == whole
            assert quick.result() == str(float(7 * 200 + 11))
            assert owner.result() == whole
            assert readers.whole_image(array, token="1") == whole
    finally:
        decoding.close()


def _source_of(site: Site, uuid: str) -> Path:
    return site.settings.folder.dataset(uuid).source / "field.tif"
