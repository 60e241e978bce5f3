"""What a person does on the pages: drop, watch, cancel, retry, search; in any theme, small, without a script."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
import tifffile
from browser_site import Browsing, Served, assert_plane, gray, until
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, Route

from scientistcloud.assembly import open_store
from scientistcloud.records import NewJob, Progress

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def a_picture(path: Path, *, seed: int = 0) -> NDArray[np.uint16]:
    y, x = np.mgrid[0:120, 0:160]
    values: NDArray[np.uint16] = (10 * x + 3 * y + 100 * seed).astype(np.uint16)
    tifffile.imwrite(path, values)
    return values


def choose(browsing: Browsing, *paths: Path) -> None:
    browsing.page.set_input_files("#files", list(paths))


def test_a_file_dropped_on_the_page_becomes_a_picture(browsing: Browsing, tmp_path: Path) -> None:
    values = a_picture(tmp_path / "dropped.tif")
    browsing.log_in_here()
    page = browsing.page
    # As a drop from the desktop: the page sees entries of a DataTransfer.
    content = list((tmp_path / "dropped.tif").read_bytes())
    transfer = page.evaluate_handle(
        """(content) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(content)], "dropped.tif", { lastModified: 1 }));
          return transfer;
        }""",
        content,
    )
    page.dispatch_event("#drop", "dragenter", {"dataTransfer": transfer})
    page.locator("#drop.over").wait_for()
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})

    card = page.locator(".card", has_text="dropped.tif")
    card.locator("img").wait_for()
    until(lambda: _equal(page.locator("#uploads li").count(), 0))
    until(lambda: _equal(page.locator("#work .job:visible", has_text="dropped.tif").count(), 0))
    card.click()
    frame = browsing.viewer()
    page.click("button.map[aria-label='Gray']")
    page.click("#contrast-full")

    assert_plane(frame, gray(values, values.min(), values.max()))
    page.locator(".head .state", has_text="Ready").wait_for()
    until(lambda: _equal(page.locator(".history tbody tr").count(), 1))


def test_a_job_moves_on_the_page_can_be_cancelled_there_and_leaves_it(browsing: Browsing, served: Served) -> None:
    store = open_store(f"sqlite:///{served.data_dir / 'scientistcloud.db'}")
    try:
        with served.client() as client:
            uuid = client.open_dataset(name="moves")
        browsing.log_in_here()
        page = browsing.page
        row = page.locator(f"#job-{uuid}")
        row.get_by_text("Uploading").wait_for()
        # A type that the portal's own worker does not know, so that this test is the worker.
        new = NewJob(job_id=f"job-of-{uuid}", dataset_uuid=uuid, job_type="by_hand", parameters={})
        store.jobs.create([new])
        (job,) = store.jobs.claim("me", limit=1, job_types=["by_hand"], lease_seconds=120)
        for percent in (25, 75):
            progress = Progress(fraction=percent / 100, step=f"level {percent}")
            store.jobs.heartbeat(job, progress=progress)
            row.get_by_text(f"level {percent}").wait_for()
            row.locator(f"progress[value='{percent}.0']").wait_for()
        row.get_by_role("button", name="Cancel moves").click()
        row.get_by_text("cancelling").wait_for()
        store.jobs.acknowledge_cancel(job)
        row.get_by_text("cancelling").wait_for(state="detached")
    finally:
        store.close()


def test_a_kind_of_job_is_paused_on_the_page_and_its_jobs_say_so(browsing: Browsing, served: Served) -> None:
    store = open_store(f"sqlite:///{served.data_dir / 'scientistcloud.db'}")
    kind = "dataset_rehearsal"  # of this test alone: others convert meanwhile
    try:
        with served.client() as client:
            uuid = client.open_dataset(name="rehearsed")
        store.jobs.create([NewJob(job_id=uuid, dataset_uuid=uuid, job_type=kind, parameters={})])
        browsing.log_in_here()
        page = browsing.page
        browsing.open("/jobs")
        row = page.locator(f"#job-{uuid}")
        row.get_by_text("no worker here can do this").wait_for()

        page.get_by_role("button", name="Pause Dataset rehearsal").click()
        row.get_by_text("jobs of this kind are paused").wait_for()
        page.get_by_role("button", name="Resume Dataset rehearsal").click()

        row.get_by_text("no worker here can do this").wait_for()
        page.locator("#workers").get_by_text("of 1").wait_for()
    finally:
        store.jobs.cancel(uuid)
        store.close()


def test_a_folder_is_one_data_set_with_its_paths(browsing: Browsing, served: Served, tmp_path: Path) -> None:
    folder = tmp_path / "scan 7"
    (folder / "inner").mkdir(parents=True)
    for number in range(3):
        a_picture(folder / f"slice_{number}.tif", seed=number)
    (folder / ".DS_Store").write_bytes(b"not data")
    browsing.log_in_here()

    browsing.page.set_input_files("#folder", folder)
    browsing.page.locator(".card", has_text="scan 7").locator("img").wait_for()

    with served.client() as client:
        (dataset,) = client.datasets(text="scan 7")
        assert [each["path"] for each in client.files(dataset["uuid"])] == [f"slice_{n}.tif" for n in range(3)]
        assert len(client.jobs(dataset["uuid"])) == 1


def test_files_are_added_to_an_open_data_set_and_removed_before_it_is_closed(
    browsing: Browsing, served: Served, tmp_path: Path
) -> None:
    folder = tmp_path / "scan 8"
    folder.mkdir()
    for number in range(3):
        a_picture(folder / f"größe {number}.tif", seed=number)
    browsing.log_in_here()
    page = browsing.page
    page.get_by_label("Convert it").uncheck()
    page.set_input_files("#folder", folder)
    page.locator(".card", has_text="scan 8").get_by_text("Stored").wait_for()
    page.locator(".card", has_text="scan 8").click()

    page.get_by_role("button", name="Add or remove files").click()
    a_picture(tmp_path / "more.tif", seed=9)
    page.set_input_files("#chosen-files", tmp_path / "more.tif")
    table = page.locator("table.files")
    table.get_by_text("more.tif").wait_for()
    page.get_by_role("button", name="Remove größe 1.tif").click()
    table.get_by_text("größe 1.tif").wait_for(state="detached")
    page.get_by_role("button", name="Close and convert").click()
    page.locator(".panel", has_text="Jobs").get_by_text("Conversion").first.wait_for()

    with served.client() as client:
        (dataset,) = client.datasets(text="scan 8")
        names = [each["path"] for each in client.files(dataset["uuid"])]
        assert names == ["größe 0.tif", "größe 2.tif", "more.tif"]
        assert client.dataset(dataset["uuid"])["revision"] == 2
        assert len(client.jobs(dataset["uuid"])) == 1


@pytest.mark.long
def test_ten_thousand_files_go_through_the_page_without_freezing_it_and_resume(
    browsing: Browsing, served: Served, tmp_path: Path
) -> None:
    folder = tmp_path / "ten thousand"
    for number in range(10_000):
        place = folder / f"plate {number % 10}" / f"{number:05}.bin"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(number.to_bytes(4, "big") * 100)
    browsing.expected += ["/api/uploads/"]
    browsing.log_in_here()
    page = browsing.page
    page.get_by_label("Convert it").uncheck()
    page.evaluate(
        """() => {
          window.longest = 0;
          let last = performance.now();
          setInterval(() => {
            const now = performance.now();
            longest = Math.max(longest, now - last);
            last = now;
          }, 10);
        }"""
    )
    # The line breaks after some batches, and the page is closed in their middle.
    batches = 0

    def some(route: Route) -> None:
        nonlocal batches
        batches += 1
        route.fallback() if batches <= 2 else route.abort("internetdisconnected")

    page.route(re.compile("/api/uploads/batch"), some)
    page.set_input_files("#folder", folder, timeout=600_000)
    page.get_by_text("waits for the connection").wait_for(timeout=600_000)
    assert page.evaluate("longest") < 5000
    with served.client() as client:

        def some_have_arrived() -> None:  # the page may wait while the first batches are still on their way
            page.wait_for_timeout(100)  # the browser is listened to meanwhile
            (dataset,) = client.datasets(text="ten thousand")
            assert list(client.files(dataset["uuid"]))

        until(some_have_arrived)
    page.unroute_all(behavior="ignoreErrors")
    browsing.open("/")
    page.get_by_text("drop it again to go on").wait_for()
    with served.client() as client:
        (dataset,) = client.datasets(text="ten thousand")
        there = len(list(client.files(dataset["uuid"])))
        assert 0 < there < 10_000

        page.get_by_label("Convert it").uncheck()
        page.set_input_files("#folder", folder, timeout=600_000)
        page.locator(".card", has_text="ten thousand").get_by_text("Stored").wait_for(timeout=600_000)

        assert [each["uuid"] for each in client.datasets(text="ten thousand")] == [dataset["uuid"]]
        files = {each["path"]: each["sha256"] for each in client.files(dataset["uuid"])}
        expected = {
            f"plate {n % 10}/{n:05}.bin": hashlib.sha256(n.to_bytes(4, "big") * 100).hexdigest()
            for n in range(10_000)
        }
        assert files == expected
        assert client.jobs(dataset["uuid"]) == []


def test_an_upload_goes_on_where_it_was_after_a_reload(browsing: Browsing, served: Served, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "long.bin").write_bytes(content)
    browsing.expected += ["/api/uploads/", "long.bin"]
    browsing.log_in_here()
    page = browsing.page
    places: list[str] = []

    def dead_line(route: Route) -> None:
        if route.request.method == "PATCH":
            places.append(route.request.url)
            route.abort("internetdisconnected")
        else:
            route.fallback()

    page.route(re.compile("/api/uploads/.+"), dead_line)
    choose(browsing, tmp_path / "long.bin")
    page.get_by_text("waits for the connection").wait_for()
    page.goto("about:blank")  # before the line is mended, else a last attempt of the page gets through
    page.unroute_all(behavior="ignoreErrors")
    # What arrived before the line died: the first million bytes.
    with httpx.Client(headers={"Authorization": f"Bearer {served.token}", "Tus-Resumable": "1.0.0"}) as client:
        sent = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        assert client.patch(places[0], content=content[:1_000_000], headers=sent).status_code == 204

    browsing.open("/")
    page.get_by_text("not complete · drop it again to go on").wait_for()
    offsets: list[str] = []
    page.on("request", lambda r: offsets.append(r.headers["upload-offset"]) if r.method == "PATCH" else None)
    choose(browsing, tmp_path / "long.bin")
    page.locator(".card", has_text="long.bin").wait_for()
    page.locator("#uploads").wait_for(state="hidden")

    assert offsets == ["1000000"]
    with served.client() as portal:
        (dataset,) = portal.datasets(text="long.bin")
    stored = served.data_dir / "datasets" / dataset["uuid"] / "source" / "long.bin"
    assert stored.read_bytes() == content


def test_an_upload_can_be_paused_and_taken_back(browsing: Browsing, served: Served, tmp_path: Path) -> None:
    (tmp_path / "paused.bin").write_bytes(os.urandom(3_000_000))
    browsing.log_in_here()
    page = browsing.page
    page.route(
        re.compile("/api/uploads/.+"), lambda route: None if route.request.method == "PATCH" else route.fallback()
    )
    choose(browsing, tmp_path / "paused.bin")
    row = page.locator("#uploads li")
    row.get_by_role("button", name="Pause").click()
    row.locator(".step", has_text="paused").wait_for()
    page.unroute_all(behavior="ignoreErrors")
    row.get_by_role("button", name="Cancel").click()
    page.locator("#uploads").wait_for(state="hidden")

    def gone() -> None:
        assert not [each.name for each in (served.data_dir / "uploads").iterdir() if each.name[0] != "."]

    until(gone)


def test_a_file_that_is_no_data_says_why_and_offers_the_way_on(browsing: Browsing, tmp_path: Path) -> None:
    (tmp_path / "broken.tif").write_bytes(b"II*\0 this is no picture")
    browsing.log_in_here()
    page = browsing.page
    choose(browsing, tmp_path / "broken.tif")
    page.locator(".card", has_text="broken.tif").get_by_text("Conversion failed").wait_for()
    page.locator(".card", has_text="broken.tif").click()

    page.locator(".alarm-title", has_text="broken.tif").wait_for()
    page.locator(".alarm").get_by_role("button", name="Retry").click()
    page.locator(".history tbody tr").first.wait_for()
    page.locator(".alarm").wait_for()
    page.locator(".history").get_by_role("link", name="Log").first.click()
    page.get_by_role("heading", name="Conversion of broken.tif").wait_for()
    page.locator(".attempts li").first.wait_for()


def test_an_empty_file_is_refused_or_fails_with_a_reason(browsing: Browsing, tmp_path: Path) -> None:
    (tmp_path / "empty.tif").write_bytes(b"")
    browsing.expected += ["/api/uploads", "empty.tif"]
    browsing.log_in_here()
    choose(browsing, tmp_path / "empty.tif")

    def explained() -> None:
        words = browsing.page.locator("#uploads, #list").all_inner_texts()
        assert any("empty" in each.lower() for each in words), words

    until(explained)


def test_names_are_only_names(browsing: Browsing, served: Served, tmp_path: Path) -> None:
    a_picture(tmp_path / "named.tif")
    with served.client() as client:
        uuid = client.upload([tmp_path / "named.tif"], name=HOSTILE)
        client.wait(uuid)
    browsing.log_in()
    page = browsing.page
    for path in (
        "/",
        f"/?q={'%22%3E%3Cscript%3E'}",
        f"/datasets/{uuid}",
        "/jobs",
        "/datasets/%3Cscript%3Ealert(3)%3C%2Fscript%3E",
    ):
        browsing.expected.append("/datasets/%3Cscript%3E")
        browsing.open(path)
        page.wait_for_load_state("load")
        assert page.locator("script:not([src]), img[onerror]").count() == 0, path
    browsing.open("/")

    page.get_by_text(HOSTILE).first.wait_for()


def test_search_finds_as_one_types_and_says_when_nothing_matches(
    browsing: Browsing, served: Served, tmp_path: Path
) -> None:
    for name in ("aorta.tif", "brain.tif"):
        a_picture(tmp_path / name)
        served.uploaded(tmp_path / name)
    browsing.log_in_here()
    page = browsing.page
    page.keyboard.press("/")
    page.keyboard.type("aort")
    until(lambda: _equal(page.locator(".card .title").all_inner_texts(), ["aorta.tif"]))
    page.keyboard.type("zzz")
    page.get_by_text("Nothing matches “aortzzz”").wait_for()
    page.get_by_role("link", name="Show all data sets").click()

    page.locator(".card", has_text="brain.tif").wait_for()


def test_log_in_cancel_and_retry_work_without_a_script(browser: Browser, served: Served, tmp_path: Path) -> None:
    a_picture(tmp_path / "plain.tif")
    uuid = served.uploaded(tmp_path / "plain.tif")
    (tmp_path / "none.tif").write_bytes(b"II*\0 nothing")
    served.uploaded(tmp_path / "none.tif")
    browsing = Browsing(browser, served, java_script_enabled=False)
    try:
        page = browsing.page
        browsing.expected.append(uuid)  # a 404 to whoever has not logged in
        browsing.open(f"/datasets/{uuid}")
        page.locator("main").get_by_role("link", name="Log in").click()
        page.fill("#token", served.token)
        page.click("button[type=submit]")
        page.wait_for_url(f"**/datasets/{uuid}")
        page.locator("#still").wait_for()
        browsing.open("/jobs?show=failed")
        page.get_by_role("button", name="Retry none.tif").click()
        page.wait_for_url("**/jobs")
        page.get_by_role("heading", name="Jobs").first.wait_for()
        page.get_by_role("button", name="Log out").click()
        page.wait_for_url("**/login")
    finally:
        browsing.close()
    assert browsing.complaints == []


@pytest.fixture(scope="module")
def long_named(served: Served, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("long") / f"a_name_without_any_space_in_it_{'x' * 90}.tif"
    a_picture(path)
    return served.uploaded(path)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_its_window(browser: Browser, served: Served, long_named: str, scheme: str) -> None:
    with served.client() as client:
        job = client.jobs(long_named)[0]["job_id"]
    browsing = Browsing(browser, served, color_scheme=scheme)
    folder = os.environ.get("SCREENSHOTS")
    try:
        browsing.expected.append("/nowhere")
        browsing.log_in()
        paths = {
            "datasets": "/", "dataset": f"/datasets/{long_named}", "jobs": "/jobs", "import": "/import",
            "job": f"/jobs/{job}", "error": "/nowhere", "login": "/login",
        }  # fmt: skip
        for title, path in paths.items():
            browsing.open(path)
            if title == "dataset" and folder:
                browsing.viewer()
            for width in (1280, 390):
                browsing.page.set_viewport_size({"width": width, "height": 844})
                browsing.page.wait_for_function("(width) => innerWidth === width", arg=width)
                if folder:
                    browsing.page.screenshot(path=Path(folder, f"{title}-{scheme}-{width}.png"), full_page=True)
                needed = browsing.page.evaluate("document.documentElement.scrollWidth")
                assert needed <= width, (title, needed, width)
            background = _background(browsing.page)
            assert background == ("rgb(251, 250, 248)" if scheme == "light" else "rgb(15, 18, 20)")
    finally:
        browsing.close()
    assert browsing.complaints == []


def test_the_theme_that_was_chosen_stays(browsing: Browsing) -> None:
    browsing.log_in_here()
    page = browsing.page
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    until(lambda: _equal(_background(page) != before, True))
    after = _background(page)
    page.reload()

    until(lambda: _equal(_background(page), after))


def _background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def _equal(found: object, wanted: object) -> None:
    assert found == wanted
