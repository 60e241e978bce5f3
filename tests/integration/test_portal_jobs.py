"""Jobs over HTTP, as the architecture of record says: the caller's data sets, for display."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from portal_site import ME, SOMEBODY_ELSE, Site, running_site

from scientistcloud.datasets.settling import settle
from scientistcloud.records import DatasetStatus, JobError, JobStatus, NewJob, Person, Worker

FIELDS = {
    "job_id", "id", "job_type", "status", "dataset_uuid", "dataset_name", "created_at", "updated_at",
    "completed_at", "progress_percentage", "error",
}  # fmt: skip


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("portal")) as running:
        yield running


def queued(site: Site, name: str, *, user: str = ME) -> tuple[str, str]:
    uuid = site.add_dataset(name, user=user, status=DatasetStatus.CONVERSION_QUEUED)
    return uuid, site.add_job(uuid)


def test_the_list_holds_the_callers_data_sets_in_conversion_and_no_others(site: Site) -> None:
    waits, _ = queued(site, "waits")
    queued(site, "foreign", user=SOMEBODY_ELSE)
    for status in set(DatasetStatus) - {DatasetStatus.CONVERSION_QUEUED, DatasetStatus.CONVERTING}:
        site.add_dataset(str(status), status=status)
    runs = site.add_dataset("runs", status=DatasetStatus.CONVERTING)

    with site.program() as client:
        answer = client.get("/api/jobs").json()

    assert answer["success"] is True
    assert answer["total"] == 2
    assert {row["dataset_uuid"]: row["status"] for row in answer["jobs"]} == {
        waits: "conversion queued",
        runs: "converting",
    }
    assert all(set(row) == FIELDS for row in answer["jobs"])


def test_the_query_selects_by_the_callers_email_and_the_two_statuses(site: Site) -> None:
    with site.program() as client, site.store.trace() as statements:
        client.get("/api/jobs")

    asked = [each for each in statements if "visstoredatas" in each and ME in each]
    assert asked
    assert all(each.count(SOMEBODY_ELSE) == 0 for each in asked)
    assert any("conversion queued" in each and "converting" in each for each in asked)


def test_a_data_set_without_a_job_yet_has_a_row_without_an_id(site: Site) -> None:
    site.add_dataset("promised", status=DatasetStatus.CONVERSION_QUEUED)

    with site.program() as client:
        (row,) = client.get("/api/jobs").json()["jobs"]

    assert (row["job_id"], row["id"], row["job_type"]) == (None, None, "dataset_conversion")
    assert row["progress_percentage"] == 0


def test_a_row_shows_the_running_job_before_those_that_wait(site: Site) -> None:
    uuid, first = queued(site, "two jobs")
    site.add_job(uuid)
    (claimed,) = site.store.jobs.claim("w", limit=1, job_types=None, lease_seconds=30)
    settle(site.store, uuid)

    with site.program() as client:
        (row,) = client.get("/api/jobs").json()["jobs"]

    assert claimed.job_id == first
    assert row["id"] == row["job_id"] == first
    assert row["status"] == "converting"


def test_status_widens_the_list(site: Site) -> None:
    queued(site, "waits")
    done = site.add_dataset("done")
    failed = site.add_dataset("failed", status=DatasetStatus.CONVERSION_ERROR, error="it broke")

    with site.program() as client:
        wider = client.get("/api/jobs", params={"status": ["done", "conversion error"]}).json()
        unknown = client.get("/api/jobs", params={"status": "nonsense"})

    assert wider["total"] == 3
    assert {done, failed} < {row["dataset_uuid"] for row in wider["jobs"]}
    assert {row["dataset_uuid"]: row["error"] for row in wider["jobs"]}[failed] == "it broke"
    assert unknown.status_code == 422


def test_the_list_pages_and_counts_what_is_on_the_other_pages(site: Site) -> None:
    for number in range(5):
        queued(site, f"number {number}")

    seen: list[str] = []
    with site.program() as client:
        while True:
            after = {"after": seen[-1]} if seen else {}
            page = client.get("/api/jobs", params={"limit": 2, **after}).json()
            assert page["total"] == 5
            if not page["jobs"]:
                break
            seen += [row["dataset_uuid"] for row in page["jobs"]]

    assert len(seen) == len(set(seen)) == 5


def test_a_waiting_job_is_cancelled_at_once_and_its_data_set_follows(site: Site) -> None:
    uuid, job_id = queued(site, "waits")

    with site.program() as client:
        answer = client.post(f"/api/jobs/{job_id}/cancel")
        again = client.post(f"/api/jobs/{job_id}/cancel")
        record = client.get(f"/api/datasets/{uuid}").json()

    assert answer.json()["status"] == "cancelled"
    assert record["status"] == "cancelled"
    assert again.status_code == 409
    assert again.json()["error"] == "AlreadyFinished"


def test_a_failed_job_is_tried_again_and_its_data_set_waits_again(site: Site) -> None:
    uuid, job_id = queued(site, "fails")
    (claimed,) = site.store.jobs.claim("w", limit=1, job_types=None, lease_seconds=30)
    site.store.jobs.fail(
        claimed, JobError(type="X", message="a.tif is damaged", permanent=True), retry_after_seconds=0
    )
    settle(site.store, uuid)

    with site.program() as client:
        failed = client.get(f"/api/datasets/{uuid}").json()
        shown = client.get(f"/datasets/{uuid}").text
        answer = client.post(f"/api/jobs/{job_id}/retry")
        waits = client.get(f"/api/datasets/{uuid}").json()
        too_soon = client.post(f"/api/jobs/{job_id}/retry")

    assert (failed["status"], failed["error"]) == ("conversion error", "a.tif is damaged")
    assert "A.tif is damaged" in shown or "a.tif is damaged" in shown
    assert answer.json()["status"] == "pending"
    assert waits["status"] == "conversion queued"
    assert too_soon.status_code == 409


def test_a_job_is_told_whole_and_without_a_word_for_a_person(site: Site) -> None:
    _, job_id = queued(site, "one")

    with site.program() as client:
        job = client.get(f"/api/jobs/{job_id}").json()

    assert job["job_id"] == job_id
    assert job["parameters"]["sensor_type"] == "auto"
    assert not {"user", "user_id", "user_email", "owner", "email"} & (set(job) | set(job["parameters"]))


def test_the_log_comes_as_text_from_any_place_on(site: Site) -> None:
    _, job_id = queued(site, "logs")
    path = site.settings.folder.log(job_id)

    with site.program() as client:
        before = client.get(f"/api/jobs/{job_id}/log")
        path.parent.mkdir(exist_ok=True)
        path.write_text("first line\n<script>alert(1)</script> µm\n")
        whole = client.get(f"/api/jobs/{job_id}/log")
        rest = client.get(f"/api/jobs/{job_id}/log", headers={"Range": "bytes=11-"})
        page = client.get(f"/jobs/{job_id}").text

    assert (before.status_code, before.text) == (200, "")
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.text == "first line\n<script>alert(1)</script> µm\n"
    assert rest.text == "<script>alert(1)</script> µm\n"
    assert "&lt;script&gt;alert(1)&lt;/script&gt; µm" in page
    assert "<script>alert(1)" not in page


def test_cancel_and_retry_are_forms_that_need_no_script(site: Site) -> None:
    uuid, job_id = queued(site, "by form")
    with site.browser() as browser:
        token = site.csrf(browser)
        page = browser.get("/jobs").text
        cancelled = browser.post(
            f"/jobs/{job_id}/cancel", data={"csrf_token": token}, headers={"Referer": f"{site.url}/datasets/{uuid}"}
        )
        after_cancel = site.store.jobs.get(job_id)
        retried = browser.post(
            f"/jobs/{job_id}/retry",
            data={"csrf_token": token},
            headers={"Referer": "http://evil.example//x.example/"},
        )
        after_retry = site.store.jobs.get(job_id)

    assert f'method="post" action="/jobs/{job_id}/cancel"' in page
    assert f'name="csrf_token" value="{token}"' in page
    assert (cancelled.status_code, cancelled.headers["location"]) == (303, f"/datasets/{uuid}")
    assert after_cancel is not None
    assert after_cancel.status is JobStatus.CANCELLED
    assert (retried.status_code, retried.headers["location"]) == (303, "/")
    assert after_retry is not None
    assert after_retry.status is JobStatus.PENDING


# -- the operator's part -------------------------------------------------------------------------


def a_failed_job(site: Site, *, error: str = "UnreadableSource", user: str = ME) -> tuple[str, str]:
    """A data set and its job, which failed for good."""
    uuid = site.add_dataset(user=user, status=DatasetStatus.CONVERSION_QUEUED)
    site.store.jobs.create(
        [NewJob(job_id=uuid, dataset_uuid=uuid, job_type="dataset_conversion", parameters={}, priority=1)]
    )
    (job,) = site.store.jobs.claim("w", limit=1, job_types=None, lease_seconds=30)
    assert job.dataset_uuid == uuid
    site.store.jobs.fail(job, JobError(type=error, message="ends early", permanent=True), retry_after_seconds=0)
    settle(site.store, uuid)
    return uuid, job.job_id


def a_worker(site: Site, *job_types: str) -> None:
    now = site.store.clock.now()
    site.store.workers.announce(
        Worker(
            worker_id="lab-1",
            host="lab",
            slots=4,
            job_types=job_types,
            sensors=(),
            version="1",
            started_at=now,
            last_seen=now,
        )
    )


def test_all_of_mine_that_failed_are_retried_at_once(site: Site) -> None:
    mine, job = a_failed_job(site)
    _, other_error = a_failed_job(site, error="OSError")
    _, foreign = a_failed_job(site, user=SOMEBODY_ELSE)
    with site.program() as client:
        narrowed = client.post("/api/jobs/retry-failed", params={"error": "unreadable"}).json()

    assert narrowed == {"retried": [job], "left": []}
    still = [each.job_id for each in site.store.jobs.find(status=JobStatus.FAILED)]
    assert still == [other_error, foreign]
    target = site.store.targets.get(mine)
    assert target is not None
    assert target.status is DatasetStatus.CONVERSION_QUEUED


def test_the_page_retries_all_that_failed_also_without_a_script(site: Site) -> None:
    _, job = a_failed_job(site)
    with site.browser() as browser:
        assert "Retry all that failed" in browser.get("/jobs?show=failed").text
        answer = browser.post("/jobs/retry-failed", data={"csrf_token": site.csrf(browser)})
        after = browser.get("/jobs?show=failed").text

    assert answer.status_code == 303
    assert "Retry all that failed" not in after
    retried = site.store.jobs.get(job)
    assert retried is not None
    assert retried.status is JobStatus.PENDING


def test_a_page_says_why_a_job_does_not_begin(site: Site) -> None:
    uuid = site.add_dataset("heart", status=DatasetStatus.CONVERSION_QUEUED)
    site.add_job(uuid)
    said = []
    with site.program() as client:
        said.append(client.get("/jobs").text)
        a_worker(site, "file_extraction")
        said.append(client.get("/jobs").text)
        a_worker(site, "dataset_conversion")
        said.append(client.get("/jobs").text)
        site.store.jobs.pause("dataset_conversion")
        said.append(client.get("/jobs").text)

    reasons = ["no worker runs just now", "no worker here can do this", "waits for a worker", "are paused"]
    assert [[reason in text for reason in reasons].index(True) for text in said] == [0, 1, 2, 3]


def test_the_operator_sees_the_queue_and_pauses_a_kind_of_job(site: Site) -> None:
    site.add_job(site.add_dataset(user=SOMEBODY_ELSE))
    a_worker(site, "dataset_conversion")
    with site.browser() as browser:
        page = browser.get("/jobs").text
        answer = browser.post("/jobs/types/dataset_conversion/pause", data={"csrf_token": site.csrf(browser)})
        paused = list(site.store.jobs.paused())
        after = browser.get("/jobs").text
    with site.program() as client:
        types = client.post("/api/queue/types/dataset_conversion/resume").json()["types"]
        unknown = client.post("/api/queue/types/nonsense/pause")
        without_a_job_yet = client.post("/api/queue/types/file_extraction/pause")

    assert "The whole queue" in page
    assert "lab-1" in page
    assert (answer.status_code, paused) == (303, ["dataset_conversion"])
    assert 'aria-label="Resume Conversion"' in after
    assert [(each["job_type"], each["paused"]) for each in types] == [("dataset_conversion", False)]
    assert unknown.status_code == 404
    assert "dataset_conversion" in unknown.json()["detail"]
    assert without_a_job_yet.status_code == 200


def test_the_queue_of_all_is_for_operators_alone(site: Site) -> None:
    a_worker(site, "dataset_conversion")
    site.app.state.gate.person = Person(email=ME)
    with site.program() as client:
        page = client.get("/jobs").text
        refused = [
            client.get("/api/queue").status_code,
            client.post("/api/queue/types/dataset_conversion/pause").status_code,
            client.post("/jobs/types/dataset_conversion/pause").status_code,
        ]

    assert "The whole queue" not in page
    assert "lab-1" not in page
    assert refused == [403, 403, 403]
    assert list(site.store.jobs.paused()) == []
