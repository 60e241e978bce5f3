"""Imports begun by programs and by the page's form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from portal_site import ME, Site, running_site

from scientistcloud.datasets.settling import settle
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.records import DatasetStatus, JobError


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running_site(tmp_path / "data", import_private_addresses=True) as site:
        yield site


def test_a_program_begins_an_import(site: Site) -> None:
    said = {
        "url": "https://ada:hush@127.0.0.1/scan.tif?key=hush",
        "name": "my scan",
        "credential": {"bearer": "hush"},
        "convert": False,
    }
    with site.program() as client:
        answer = client.post("/api/imports", json=said)
        repeated = client.get(f"/api/datasets/{answer.json()['uuid']}/jobs").text

    assert answer.status_code == 202
    dataset = site.store.datasets.get(answer.json()["uuid"])
    assert dataset is not None
    assert (dataset.name, dataset.user, dataset.status) == ("my scan", ME, DatasetStatus.UPLOAD_QUEUED)
    (job,) = site.store.jobs.find(dataset_uuid=dataset.uuid)
    assert job.job_type == "dataset_import"
    assert job.parameters["remote"] == {"kind": "web", "url": "https://127.0.0.1/scan.tif"}
    assert job.parameters["convert"] is False
    assert site.store.credentials.sealed(job.parameters["credential"]) is not None
    assert "hush" not in answer.text + repeated


def test_an_import_without_a_secret_keeps_none(site: Site) -> None:
    with site.program() as client:
        uuid = client.post("/api/imports", json={"url": "s3://bucket/x", "credential": {}}).json()["uuid"]

    (job,) = site.store.jobs.find(dataset_uuid=uuid)
    assert job.parameters["credential"] is None
    assert not site.settings.folder.sealing_key.exists()


@pytest.mark.parametrize(
    ("said", "status", "word"),
    [
        ({"url": "file:///etc/passwd"}, 400, "file: is not fetched"),
        ({"url": "http://host/x", "credential": {"ssh": "evil"}}, 400, "does not belong"),
        ({"url": "http://host/x", "user": "eve@example.org"}, 422, "user"),
        ({}, 422, "url"),
    ],
)
def test_what_is_not_begun(site: Site, said: dict[str, object], status: int, word: str) -> None:
    with site.program() as client:
        answer = client.post("/api/imports", json=said)

    assert answer.status_code == status
    assert word in answer.json()["detail"]
    assert site.store.datasets.find(user=ME) == []


def test_an_address_of_this_machine_is_refused_at_once(tmp_path: Path) -> None:
    with running_site(tmp_path / "strict") as site, site.program() as client:
        answers = [
            client.post("/api/imports", json={"url": url})
            for url in ("http://127.0.0.1/x", "http://localhost:8080/x", "webdav://10.1.2.3/x", "http://[::1]/")
        ]
        endpoint = client.post("/api/imports", json={"url": "s3://b00/x", "credential": {"endpoint": "http://0/"}})

    assert [answer.status_code for answer in (*answers, endpoint)] == [400] * 5
    assert all("private network" in answer.json()["detail"] for answer in (*answers, endpoint))


def test_the_pages_form_works_without_javascript(site: Site) -> None:
    with site.browser() as browser:
        csrf = site.csrf(browser)
        form = {"csrf_token": csrf, "url": "http://127.0.0.1/scan.tif", "name": "", "convert": "true", "login": ""}
        answer = browser.post("/import", data=form)
        page = browser.get(answer.headers["location"])

    assert answer.status_code == 303
    uuid = answer.headers["location"].removeprefix("/datasets/")
    (job,) = site.store.jobs.find(dataset_uuid=uuid)
    assert (job.parameters["convert"], job.parameters["credential"]) == (True, None)
    assert page.status_code == 200
    assert "scan.tif" in page.text


def test_the_form_says_what_is_wrong_and_keeps_what_was_typed(site: Site) -> None:
    with site.browser() as browser:
        form = {"url": "ftp://host/<scan>", "name": "mine", "password": "hush", "csrf_token": site.csrf(browser)}
        answer = browser.post("/import", data=form)
        forged = browser.post("/import", data=form | {"csrf_token": "forged"})

    assert answer.status_code == 400
    assert "An address that begins with ftp: is not fetched" in answer.text
    assert 'value="ftp://host/&lt;scan&gt;"' in answer.text
    assert 'value="mine"' in answer.text
    assert "hush" not in answer.text
    assert forged.status_code == 403
    assert site.store.datasets.find(user=ME) == []


def test_an_import_that_failed_says_that_a_retry_goes_on(site: Site) -> None:
    with site.program() as client:
        uuid = client.post("/api/imports", json={"url": "http://127.0.0.1/scan.tif"}).json()["uuid"]
    queue = JobQueueManager(site.store)
    job = queue.get_next_job("ada")
    assert job is not None
    queue.fail_job(job, JobError(type="Unavailable", message="it broke off"), permanent=True)
    settle(site.store, uuid)

    with site.browser() as browser:
        page = browser.get(f"/datasets/{uuid}").text

    assert "it broke off" in page
    assert "What has come is kept for a week" in page
