"""Deleted, had back, removed: over HTTP, on the pages, and by the care and the worker that end it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from portal_site import Site, running_site

from scientistcloud import JobQueueManager
from scientistcloud.assembly import open_forms
from scientistcloud.datasets import retiring
from scientistcloud.errors import LeaseLost, NotFound, Stale
from scientistcloud.records import DatasetStatus, Job, JobStatus
from scientistcloud.service.care import Care
from scientistcloud.tasks.contract import Work
from scientistcloud.tasks.deletion import DeletionTask


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("portal")) as running:
        yield running


def care_of(site: Site) -> Care:
    return Care(
        site.store,
        queue=JobQueueManager(site.store),
        forms=open_forms(site.settings.data_dir),
        folder=site.settings.folder,
        worker_id="ada",
        settings=site.settings,
    )


def deleted_long_ago(site: Site) -> str:
    uuid = site.add_dataset("old")
    site.add_file(uuid, "scans/a.tif", b"a")
    retiring.delete(site.store, uuid)
    before = site.store.datasets.get(uuid)
    assert before is not None
    assert before.deleted_at is not None
    site.store.datasets.update(before, replace(before, deleted_at=before.deleted_at - timedelta(days=7)))
    return uuid


def jobs_of(site: Site, uuid: str) -> list[Job]:
    return JobQueueManager(site.store).list_jobs(dataset_uuid=uuid)


# -- over HTTP -----------------------------------------------------------------------------------


def test_what_is_deleted_is_gone_from_sight_and_can_be_had_back(site: Site) -> None:
    uuid = site.add_dataset("heart")
    site.add_file(uuid, "a.tif", b"bytes")
    with site.program() as client:
        deleted = client.delete(f"/api/datasets/{uuid}")
        assert deleted.status_code == 200
        assert deleted.json()["deleted_at"] is not None
        assert client.get(f"/api/datasets/{uuid}").status_code == 404
        assert client.get(f"/data/{uuid}/source/a.tif").status_code == 404
        assert client.delete(f"/api/datasets/{uuid}").status_code == 404
        listed = client.get("/api/datasets", params={"deleted": True}).json()["datasets"]
        assert uuid in [each["uuid"] for each in listed]
        assert uuid not in [each["uuid"] for each in client.get("/api/datasets").json()["datasets"]]

        restored = client.post(f"/api/datasets/{uuid}/restore")

        assert (restored.status_code, restored.json()["deleted_at"]) == (200, None)
        assert client.get(f"/data/{uuid}/source/a.tif").content == b"bytes"
        assert client.post(f"/api/datasets/{uuid}/restore").status_code == 404  # it is not deleted


def test_jobs_of_a_deleted_data_set_are_called_off(site: Site) -> None:
    uuid = site.add_dataset("busy", status=DatasetStatus.CONVERSION_QUEUED)
    job = site.add_job(uuid)
    with site.program() as client:
        client.delete(f"/api/datasets/{uuid}")
        ended = site.store.jobs.get(job)
        assert ended is not None
        assert ended.status is JobStatus.CANCELLED

        assert client.post(f"/api/datasets/{uuid}/restore").json()["status"] == "cancelled"
        assert client.post(f"/api/datasets/{uuid}/convert").status_code == 202


def test_the_page_deletes_offers_to_undo_and_lists_what_can_be_had_back(site: Site) -> None:
    uuid = site.add_dataset("<b>heart</b>")
    with site.browser() as browser:
        form = {"csrf_token": site.csrf(browser)}
        gone = browser.post(f"/datasets/{uuid}/delete", data=form)
        assert gone.status_code == 303
        told = browser.get(gone.headers["location"])
        assert "“&lt;b&gt;heart&lt;/b&gt;” is deleted." in told.text
        assert f'action="/datasets/{uuid}/restore"' in told.text
        assert 'href="/deleted"' in browser.get("/").text

        back = browser.post(f"/datasets/{uuid}/restore", data=form)

        assert (back.status_code, back.headers["location"]) == (303, f"/datasets/{uuid}")
        assert browser.get(f"/datasets/{uuid}").status_code == 200


# -- by care and a job ---------------------------------------------------------------------------


def test_a_removal_is_asked_for_once_the_days_are_over_and_not_before(site: Site) -> None:
    old, young = deleted_long_ago(site), site.add_dataset("young")
    retiring.delete(site.store, young)
    care = care_of(site)

    care.round()
    care.round()

    assert [(job.job_type, job.parameters) for job in jobs_of(site, old)] == [("dataset_deletion", {})]
    assert jobs_of(site, young) == []
    with site.program() as client:  # too late
        refused = client.post(f"/api/datasets/{old}/restore")
        assert refused.status_code == 409
        assert "being removed" in refused.json()["detail"]
        assert "being removed" in client.get("/deleted").text


def test_a_promise_whose_creator_died_is_kept(site: Site) -> None:
    old = deleted_long_ago(site)
    target = site.store.targets.get(old)
    assert target is not None
    retiring.want_removal(site.store, target)  # and here care's process dies

    care_of(site).round()

    assert len(jobs_of(site, old)) == 1


def test_a_restored_data_set_that_is_deleted_again_is_removed_after_its_own_days(site: Site) -> None:
    uuid = deleted_long_ago(site)
    retiring.restore(site.store, uuid)
    retiring.delete(site.store, uuid)

    care_of(site).round()

    assert jobs_of(site, uuid) == []


def test_a_data_set_that_was_restored_a_moment_ago_is_not_removed(site: Site) -> None:
    uuid = deleted_long_ago(site)
    target = site.store.targets.get(uuid)
    assert target is not None
    retiring.restore(site.store, uuid)  # between care's look and its write

    with pytest.raises(Stale):
        retiring.want_removal(site.store, target)
    assert jobs_of(site, uuid) == []


# -- the task and the folder ---------------------------------------------------------------------


def test_everything_in_the_folder_goes_and_nothing_that_a_link_names(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "datasets" / "u", tmp_path / "elsewhere"
    for name in ("source/scans/a.tif", "source/b.tif", "converted.ome.zarr/c/0", "preview.webp", ".guard"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"1234")
    elsewhere.mkdir()
    (elsewhere / "kept.tif").write_bytes(b"kept")
    (folder / "source" / "scans" / "folder").symlink_to(elsewhere)
    (folder / "source" / "file").symlink_to(elsewhere / "kept.tif")
    (folder / "aside.3").symlink_to(elsewhere)
    output = folder / "partial.5"
    output.mkdir()
    seen: list[float] = []
    work = Work(
        job_id="j", dataset_uuid="u", job_type="dataset_deletion", token=5, parameters={},
        source=folder / "source", output=output, memory_bytes=2**30, report=lambda done, _: seen.append(done),
    )  # fmt: skip

    outcome = DeletionTask().run(work)

    assert sorted(each.name for each in folder.iterdir()) == [".guard", "partial.5"]
    assert (elsewhere / "kept.tif").read_bytes() == b"kept"
    assert outcome.result["files"] == 7  # four files and three links
    assert seen == sorted(seen)
    assert DeletionTask().run(work).result == {"files": 0, "size_bytes": 0}  # again, after a crash


def test_a_folder_is_removed_by_the_latest_attempt_alone(tmp_path: Path) -> None:
    forms = open_forms(tmp_path)
    for token in (1, 2):
        forms.begin("u", job_id="j", token=token)
    (tmp_path / "datasets" / "u" / "left").mkdir()

    with pytest.raises(LeaseLost):
        forms.remove("u", token=1)
    assert (tmp_path / "datasets" / "u" / "left").is_dir()

    forms.remove("u", token=2)
    forms.remove("u", token=2)

    assert list((tmp_path / "datasets").iterdir()) == []


def test_there_is_nothing_to_delete_where_there_is_no_data_set(site: Site) -> None:
    with pytest.raises(NotFound):
        retiring.delete(site.store, "never")
