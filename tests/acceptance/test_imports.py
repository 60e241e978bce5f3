"""Imports by real workers from a server on loopback: they die, are cancelled, and tell nobody a secret."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from service_site import Site, eventually

from scientistcloud.datasets import steering
from scientistcloud.records import Dataset, DatasetStatus
from scientistcloud.uploads import importing
from scientistcloud.uploads.folder import Limits
from scientistcloud.uploads.processor import UploadProcessor
from web_site import Request, WebSite, a_file, a_web_site

ADA = "ada@example.org"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "data")
    yield site
    site.close()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a worker that fetches from anywhere."""
    site = Site(tmp_path_factory.mktemp("busy"))
    site.worker(tasks=(), IMPORT_PRIVATE_ADDRESSES="true")
    yield site
    site.close()


@pytest.fixture
def web() -> Iterator[WebSite]:
    with a_web_site() as web:
        yield web


def begun(site: Site, url: str, *, limits: Limits | None = None, **more: object) -> Dataset:
    processor = UploadProcessor(site.store, data_dir=site.root, limits=limits)
    return importing.begin(processor, user=ADA, url=url, private_addresses=True, **more)  # type: ignore[arg-type]


def a_tiff(number: int = 3) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, np.full((64, 48), number, dtype=np.uint16))
    return out.getvalue()


def types_of(site: Site, dataset: Dataset) -> list[tuple[str, str]]:
    return [(job.job_type, job.status) for job in site.queue.list_jobs(dataset_uuid=dataset.uuid)]


def test_a_zip_from_elsewhere_ends_as_one_data_set(busy: Site, web: WebSite) -> None:
    site = busy
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for z in range(3):
            archive.writestr(f"z{z}.tif", a_tiff(z))
    web.pages["/scan.zip"] = a_file(out.getvalue(), breaks_after=len(out.getvalue()) // 3 + 1)
    dataset = begun(site, web.url("/scan.zip"))
    assert (dataset.status, dataset.name) == (DatasetStatus.UPLOAD_QUEUED, "scan.zip")

    target = site.settled(dataset.uuid, DatasetStatus.DONE)

    assert types_of(site, dataset) == [
        ("dataset_import", "completed"),
        ("file_extraction", "completed"),
        ("dataset_conversion", "completed"),
    ]
    assert target.forms[-1]["shape"] == [3, 64, 48]
    files = {file.path for file in site.store.datasets.files(dataset.uuid)}
    assert files == {"scan.zip", "scan/z0.tif", "scan/z1.tif", "scan/z2.tif"}


@pytest.mark.long
def test_an_import_whose_worker_is_killed_goes_on_inside_of_the_file(site: Site, web: WebSite) -> None:
    content = np.random.default_rng(1).bytes(2 << 20)
    let_go: list[bool] = []

    def slow(request: Request) -> None:
        if let_go or request.headers.get("Range"):
            return a_file(content)(request)
        request.say(200, {"Content-Length": str(len(content)), "ETag": '"one"'})
        request.wfile.write(content[: 1 << 20])
        request.wfile.flush()
        while not let_go:
            time.sleep(0.02)
        return None

    web.pages["/noise.bin"] = slow
    dataset = begun(site, web.url("/noise.bin"), convert=False)
    kept = site.folder(dataset.uuid).root
    first = site.worker("ada", tasks=(), IMPORT_PRIVATE_ADDRESSES="true", LEASE_SECONDS=3)
    eventually(
        lambda: any(path.stat().st_size == 1 << 20 for path in kept.glob("kept.*/files/noise.bin")), "was half way"
    )
    # The checkpoint is written after five seconds, so this one was killed before: it begins anew, unharmed.
    first.kill()
    let_go.append(True)

    site.worker("bob", tasks=(), IMPORT_PRIVATE_ADDRESSES="true")
    site.settled(dataset.uuid, DatasetStatus.DONE)

    assert types_of(site, dataset) == [("dataset_import", "completed")]
    assert (kept / "source" / "noise.bin").read_bytes() == content
    assert not list(kept.glob("kept.*"))


def test_a_secret_is_in_no_job_log_or_file_and_goes_with_the_end(busy: Site, web: WebSite) -> None:
    site, let_go = busy, threading.Event()

    def waits(request: Request) -> None:
        let_go.wait(60)
        a_file(a_tiff())(request)

    web.pages["/scan.tif"] = waits
    url = web.url("/scan.tif?signature=hush-hush").replace("//", "//ada:hush-hush@", 1)
    dataset = begun(site, url, fields={"bearer": "hush-hush"}, convert=False)
    (job,) = site.queue.list_jobs(dataset_uuid=dataset.uuid)
    reference = job.parameters["credential"]
    assert site.store.credentials.sealed(reference) is not None

    let_go.set()
    site.settled(dataset.uuid, DatasetStatus.DONE)

    assert web.asked[0][0] == "/scan.tif?signature=hush-hush"
    assert web.asked[0][1]["authorization"] == "Bearer hush-hush"
    eventually(lambda: site.store.credentials.sealed(reference) is None, "was forgotten")
    for path in site.root.rglob("*"):
        assert not path.is_file() or b"hush-hush" not in path.read_bytes(), path


def test_this_machine_is_not_fetched_from_unless_the_operator_says_so(site: Site, web: WebSite) -> None:
    web.pages["/scan.tif"] = a_file(a_tiff())
    dataset = begun(site, web.url("/scan.tif"))

    site.worker(tasks=())
    target = site.settled(dataset.uuid, DatasetStatus.UPLOAD_ERROR)

    assert "private network" in (target.error or "")
    assert web.asked == []
    assert not site.folder(dataset.uuid).source.exists()


def test_a_cancelled_import_leaves_nothing_and_can_be_begun_again(busy: Site, web: WebSite) -> None:
    site = busy

    def endless(request: Request) -> None:
        request.say(200, {"Transfer-Encoding": "chunked"})
        while True:
            request.wfile.write(b"1000\r\n" + bytes(0x1000) + b"\r\n")
            time.sleep(0.01)

    web.pages["/endless"] = endless
    dataset = begun(site, web.url("/endless?key=hush"))
    (job,) = site.queue.list_jobs(dataset_uuid=dataset.uuid)
    root = site.folder(dataset.uuid).root
    eventually(lambda: list(root.glob("kept.*/files/endless")), "began")
    assert site.target(dataset.uuid).status is DatasetStatus.UPLOADING

    site.queue.cancel_job(job.job_id)

    site.settled(dataset.uuid, DatasetStatus.CANCELLED)
    eventually(lambda: not list(root.glob("kept.*")), "was removed")
    web.pages["/endless"] = a_file(a_tiff())

    steering.retry(site.store, job.job_id)

    site.settled(dataset.uuid, DatasetStatus.DONE)
    assert web.asked[-1][0] == "/endless?key=hush"  # with what opens it, which is forgotten only then
    eventually(lambda: site.store.credentials.sealed(job.parameters["credential"]) is None, "was forgotten")


@pytest.mark.long
def test_an_import_ends_at_the_owners_quota(site: Site, web: WebSite) -> None:
    web.pages["/scan.tif"] = a_file(a_tiff())
    dataset = begun(site, web.url("/scan.tif"), limits=Limits(quota_bytes=100))

    site.worker(tasks=(), IMPORT_PRIVATE_ADDRESSES="true")

    assert "and 100 are left" in (site.settled(dataset.uuid, DatasetStatus.UPLOAD_ERROR).error or "")


@pytest.mark.long
def test_a_secret_that_expired_says_so(site: Site, web: WebSite) -> None:
    dataset = begun(site, web.url("/scan.tif?key=hush"))
    (job,) = site.queue.list_jobs(dataset_uuid=dataset.uuid)
    site.store.credentials.remove(job.parameters["credential"])

    site.worker(tasks=(), IMPORT_PRIVATE_ADDRESSES="true")

    assert "begin the import again" in (site.settled(dataset.uuid, DatasetStatus.UPLOAD_ERROR).error or "")
