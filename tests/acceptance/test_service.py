"""The background service at work, with real processes on a real database."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from service_site import NEVER_SECONDS, SHORT_LEASE_SECONDS, Site, eventually, is_alive, waits_for_its_retry

from scientistcloud import JobQueueManager
from scientistcloud.datasets import retiring
from scientistcloud.records import Credential, DatasetStatus, JobStatus
from scientistcloud.service import care


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With one worker of two slots, for all tests that leave it well."""
    site = Site(tmp_path_factory.mktemp("site"))
    site.worker(slots=2, SLOT_MEMORY_BYTES=200 * 2**20)
    yield site
    site.close()


@pytest.fixture(scope="module")
def limited_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With one worker of three slots, for jobs of two types, of one of them no more than one at a time.

    It looks only when something wakes it.
    """
    site = Site(tmp_path_factory.mktemp("limited"))
    assert site.store.meta.hold(care.ROLE, "another", seconds=NEVER_SECONDS)
    tasks = ("service_tasks:Trial", "service_tasks:OtherTrial")
    site.worker(slots=3, tasks=tasks, look_seconds=NEVER_SECONDS, JOB_TYPE_LIMITS="dataset_conversion=1")
    yield site
    site.close()


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Site]:
    """For tests that bring up workers of their own, and do them harm."""
    site = Site(tmp_path)
    yield site
    site.close()


@pytest.fixture
def hasty_site(tmp_path: Path) -> Iterator[Site]:
    """With a short lease, for tests in which one runs out."""
    site = Site(tmp_path, lease_seconds=SHORT_LEASE_SECONDS)
    yield site
    site.close()


def test_a_job_is_run_and_its_data_set_shown(site: Site) -> None:
    dataset = site.dataset()

    job = site.ended(site.job(dataset))

    assert (job.status, job.result, job.worker_id) == (JobStatus.COMPLETED, {"pieces": 20}, "ada")
    target = site.settled(dataset, DatasetStatus.DONE)
    assert target.sensor == "TIFF"
    assert [(form["token"], form["job_id"]) for form in target.forms] == [(job.token, job.job_id)]
    assert site.form_of(dataset) == job.job_id
    assert "attempt 1 of 3 by worker ada" in site.settings.folder.log(job.job_id).read_text()
    assert (site.folder(dataset).source / "scan.tif").read_text() == "…"


def test_a_running_conversion_is_shown_with_its_progress(site: Site) -> None:
    dataset = site.dataset()
    job_id = site.job(dataset, "hold")

    site.settled(dataset, DatasetStatus.CONVERTING)
    eventually(lambda: site.found(job_id).progress.step == "piece 9 of 20", "told the last that it reported")
    assert site.found(job_id).progress.fraction == 9 / 20
    assert "attempt 1 of 3 by worker ada" in site.settings.folder.log(job_id).read_text()
    assert site.form_of(dataset) is None

    site.go(dataset)
    site.settled(dataset, DatasetStatus.DONE)


def test_jobs_of_one_data_set_run_in_order_and_the_newest_form_is_shown(site: Site) -> None:
    dataset = site.dataset()
    with site.watched(dataset) as seen:
        jobs = [site.job(dataset, seconds=0.1) for _ in range(4)]
        for job_id in jobs:
            site.ended(job_id)
        eventually(lambda: site.target(dataset).forms[-1]["job_id"] == jobs[-1], "named the newest form")

    assert site.form_of(dataset) == jobs[-1]
    assert seen <= {None, *jobs}
    ends = [job.finished_at for job in map(site.found, jobs)]
    assert ends == sorted(end for end in ends if end is not None)


def test_a_source_file_that_cannot_be_read_fails_at_once_and_the_worker_goes_on(site: Site) -> None:
    dataset, next_one = site.dataset(), site.dataset()

    job = site.ended(site.job(dataset, "read_damaged"))

    assert (job.status, job.attempt) == (JobStatus.FAILED, 1)
    target = site.settled(dataset, DatasetStatus.CONVERSION_ERROR)
    assert target.error == "scan_07.tif ends after 3 of 12 pages; upload it again"
    assert site.ended(site.job(next_one)).status is JobStatus.COMPLETED


def test_what_passes_is_tried_again_after_a_pause(site: Site) -> None:
    dataset = site.dataset()
    job_id = site.job(dataset, "fail_once")

    eventually(lambda: waits_for_its_retry(site.found(job_id)), "waited for its retry")
    waiting = site.found(job_id)
    assert waiting.error is not None
    assert waiting.error.type == "ConnectionError"
    assert (waiting.run_at - waiting.history[-1].finished_at).total_seconds() > 1
    site.settled(dataset, DatasetStatus.CONVERSION_QUEUED)
    assert not site.folder(dataset).partial(waiting.token).exists()
    assert site.found(job_id).status is JobStatus.PENDING

    site.hurry(job_id)

    job = site.ended(job_id)
    assert (job.status, job.attempt) == (JobStatus.COMPLETED, 2)


def test_a_failed_conversion_leaves_the_older_form_in_place(site: Site) -> None:
    dataset = site.dataset()
    first = site.ended(site.job(dataset))

    site.ended(site.job(dataset, "read_damaged"))

    target = site.settled(dataset, DatasetStatus.CONVERSION_ERROR)
    assert target.forms[-1]["job_id"] == first.job_id
    assert site.form_of(dataset) == first.job_id


def test_a_running_job_is_cancelled(site: Site) -> None:
    dataset = site.dataset()
    job_id = site.job(dataset, "with_children")
    child = site.started(dataset)

    site.queue.cancel_job(job_id)

    assert site.ended(job_id).status is JobStatus.CANCELLED
    site.settled(dataset, DatasetStatus.CANCELLED)
    assert not is_alive(child)
    eventually(lambda: not is_alive(int((site.folder(dataset).root / "beside").read_text())), "ended its child")
    assert not site.folder(dataset).partial(1).exists()


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_a_quick_look_is_seen_while_the_conversion_runs_and_no_longer(site: Site, end: str) -> None:
    dataset = site.dataset()
    job_id = site.job(dataset, does="quick")
    quick = site.folder(dataset).quicklook

    eventually(lambda: (quick / "zarr.json").exists(), "the quick look is seen")

    assert not site.folder(dataset).converted.exists()
    if end == "cancelled":
        site.queue.cancel_job(job_id)
    else:
        (site.folder(dataset).root / "go").touch()
    assert site.ended(job_id).status == end
    eventually(lambda: not quick.exists(), "the quick look is gone")
    assert list(site.folder(dataset).root.glob("partial*")) == []


def test_a_time_out_ends_an_attempt(site: Site) -> None:
    dataset = site.dataset()

    job = site.ended(site.job(dataset, "hold", timeout_seconds=0.5, max_attempts=1))

    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.type == "TimeOut"
    assert not is_alive(site.started(dataset))


def test_a_job_that_stands_still_is_ended_so_that_none_hangs_for_ever(own_site: Site) -> None:
    site = own_site
    site.worker(STALL_SECONDS=0.5)
    dataset = site.dataset()

    job = site.ended(site.job(dataset, "hold", max_attempts=1))

    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.type == "Stalled"
    assert not is_alive(site.started(dataset))


def test_a_job_that_takes_too_much_memory_is_ended(site: Site) -> None:
    job = site.ended(site.job(site.dataset(), "allocate", max_attempts=1))

    assert job.error is not None
    assert job.error.type == "OutOfMemory"
    assert "SLOT_MEMORY_BYTES" in job.error.message


def test_a_job_whose_data_set_is_gone_fails_and_names_it(site: Site) -> None:
    gone = "99999999-9999-4999-8999-999999999999"

    job = site.ended(site.job(gone))

    assert (job.status, job.attempt) == (JobStatus.FAILED, 1)
    assert job.error is not None
    assert gone in job.error.message


@pytest.mark.parametrize(
    "path",
    ["../installation-id", "/etc/passwd", "datasets/UUID/../../scientistcloud.db", "datasets/UUID/source/out"],
)
def test_a_job_that_reads_outside_its_data_set_is_refused(site: Site, path: str) -> None:
    dataset = site.dataset()
    (site.folder(dataset).source / "out").symlink_to("/etc")

    job = site.ended(site.job(dataset, input_path=path.replace("UUID", dataset)))

    assert (job.status, job.attempt) == (JobStatus.FAILED, 1)
    assert job.error is not None
    assert "leads out of its data set's folder" in job.error.message


def test_a_job_that_writes_outside_its_data_set_is_refused(site: Site) -> None:
    job = site.ended(site.job(site.dataset(), output_path="datasets"))

    assert job.error is not None
    assert "output_path" in job.error.message


def test_a_job_whose_source_is_gone_fails_at_once(site: Site) -> None:
    dataset = site.dataset()

    job = site.ended(site.job(dataset, input_path=f"datasets/{dataset}/source/no.tif"))

    assert (job.status, job.attempt) == (JobStatus.FAILED, 1)


def test_a_result_that_was_not_written_is_an_error_of_the_task(site: Site) -> None:
    job = site.ended(site.job(site.dataset(), "publish_what_is_not_there"))

    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "nothing" in job.error.message


def test_jobs_of_a_type_that_nobody_here_can_do_are_left_alone(site: Site) -> None:
    unknown = site.job(site.dataset(), job_type="dataset_mosaic")

    site.ended(site.job(site.dataset()))

    assert site.found(unknown).status is JobStatus.PENDING


def test_a_paused_type_waits_for_the_operator_and_then_runs_at_once(limited_site: Site) -> None:
    site = limited_site
    site.queue.pause_type("dataset_conversion")
    paused = site.job(site.dataset())

    site.ended(site.job(site.dataset(), job_type="file_extraction"))  # created later, and not paused
    assert site.found(paused).status is JobStatus.PENDING
    site.queue.resume_type("dataset_conversion")

    assert site.ended(paused).status is JobStatus.COMPLETED


def test_a_worker_says_what_it_is(site: Site) -> None:
    (worker,) = site.store.workers.all()

    assert (worker.worker_id, worker.slots, worker.job_types) == ("ada", 2, ("dataset_conversion",))


def test_a_type_takes_no_more_slots_than_its_limit_and_leaves_the_rest_to_others(limited_site: Site) -> None:
    site = limited_site
    first, second, other = site.dataset(), site.dataset(), site.dataset()
    one = site.job(first, "hold")
    two = site.job(second, "hold")
    site.job(other, "hold", job_type="file_extraction")

    site.started(first)
    site.started(other)  # created later, claimed although the limit keeps the one before it waiting
    assert site.found(two).status is JobStatus.PENDING
    site.go(first)
    site.started(second)

    assert site.ended(one).status is JobStatus.COMPLETED
    site.go(second)
    site.go(other)
    assert site.ended(two).status is JobStatus.COMPLETED


def test_what_a_worker_counted_is_there_for_all_when_it_has_ended_and_its_log_can_be_json(own_site: Site) -> None:
    site = own_site
    worker = site.worker(LOG_FORMAT="json")
    dataset = site.dataset()
    job = site.ended(site.job(dataset))
    site.ended(site.job(site.dataset(), "read_damaged"))

    worker.signal(signal.SIGTERM)
    worker.ends()

    counted = {
        (count.name, *(value for _, value in count.labels)): count.value for count in site.store.counters.all()
    }
    attempts = ("scientistcloud_attempts_total", "dataset_conversion")
    assert (counted[(*attempts, "completed")], counted[(*attempts, "failed")]) == (1, 1)
    assert counted[("scientistcloud_claims_total", "dataset_conversion")] == 2
    assert counted[("scientistcloud_wake_up_seconds_count",)] >= 1
    assert counted[("scientistcloud_attempt_seconds_count", "dataset_conversion")] == 2
    lines = [json.loads(line) for line in worker.log.read_text().splitlines()]
    of_the_job = [line for line in lines if line.get("job_id") == job.job_id]
    assert [line["event"] for line in of_the_job] == ["attempt started", "attempt completed"]
    assert {line["dataset_uuid"] for line in of_the_job} == {dataset}
    assert {line["worker_id"] for line in of_the_job} == {"ada"}
    assert "worker ended" in [line["event"] for line in lines]


# -- its life --------------------------------------------------------------------------------------


def test_an_idle_worker_ends_when_it_is_told_and_not_at_its_next_look(own_site: Site) -> None:
    # Another takes care, so that nothing is written which would wake it.
    assert own_site.store.meta.hold(care.ROLE, "another", seconds=NEVER_SECONDS)
    worker = own_site.worker(look_seconds=NEVER_SECONDS)
    time.sleep(0.2)  # so that it sleeps; where it does not yet, the end is heard as well

    worker.signal(signal.SIGTERM)

    assert worker.ends() == 0
    assert own_site.store.workers.all() == []


def test_a_drained_worker_ends_what_runs_and_claims_nothing_more(own_site: Site) -> None:
    site = own_site
    worker = site.worker()
    running, waiting = site.dataset(), site.dataset()
    job_id = site.job(running, "hold")
    site.started(running)

    worker.signal(signal.SIGTERM)
    eventually(lambda: worker.says("draining"), "drained")
    next_job = site.job(waiting)
    site.go(running)

    assert worker.ends() == 0
    assert site.found(job_id).status is JobStatus.COMPLETED
    assert site.target(running).status is DatasetStatus.DONE
    assert site.found(next_job).status is JobStatus.PENDING
    assert site.store.workers.all() == []


def test_a_second_signal_cuts_and_gives_the_job_back_unharmed(own_site: Site) -> None:
    site = own_site
    worker = site.worker()
    dataset = site.dataset()
    job_id = site.job(dataset, "hold")
    child = site.started(dataset)

    worker.signal(signal.SIGTERM)
    eventually(lambda: worker.says("draining"), "drained")
    worker.signal(signal.SIGTERM)

    assert worker.ends() == 0
    assert not is_alive(child)
    job = site.found(job_id)
    assert (job.status, job.attempt) == (JobStatus.PENDING, 0)
    assert site.target(dataset).status is DatasetStatus.CONVERSION_QUEUED

    site.go(dataset)
    site.worker("bob")
    assert site.ended(job_id).attempt == 1


def test_a_data_folder_of_another_installation_is_refused(own_site: Site) -> None:
    (own_site.root / "installation-id").write_text("another\n")

    worker = own_site.worker()

    assert worker.ends() == 1
    assert worker.says("belongs to installation another")


# -- harm ------------------------------------------------------------------------------------------


def test_a_killed_worker_loses_its_job_to_another_and_nothing_half_written_is_seen(own_site: Site) -> None:
    site = own_site
    dataset = site.dataset()
    site.worker("cyd").kill()  # its name is left behind, with nothing to take back
    first = site.worker("ada")
    older = site.ended(site.job(dataset)).job_id

    with site.watched(dataset) as seen:
        job_id = site.job(dataset, "with_children")
        child = site.started(dataset, token=2)
        site.worker("bob")
        first.kill()
        eventually(lambda: not is_alive(child), "ended with its service")
        beside = int((site.folder(dataset).root / "beside").read_text())
        eventually(lambda: not is_alive(beside), "ended with its service")
        site.go(dataset)

        job = site.ended(job_id)
        site.settled(dataset, DatasetStatus.DONE)

    assert (job.status, job.worker_id, job.attempt) == (JobStatus.COMPLETED, "bob", 2)
    assert seen <= {None, older, job_id}  # None: between two renames
    assert site.form_of(dataset) == job_id
    assert site.target(dataset).forms[-1]["token"] == job.token
    assert not list(site.folder(dataset).root.glob("partial.*"))
    assert [worker.worker_id for worker in site.store.workers.all()] == ["bob"]


def test_a_killed_worker_that_comes_back_takes_its_own_jobs_up_again(own_site: Site) -> None:
    site = own_site
    dataset = site.dataset()
    first = site.worker("ada")
    job_id = site.job(dataset, "hold")
    site.started(dataset)

    first.kill()
    site.go(dataset)
    site.worker("ada")

    job = site.ended(job_id)
    assert (job.status, job.attempt) == (JobStatus.COMPLETED, 2)
    assert job.history[0].error is not None
    assert job.history[0].error.type == "WorkerLost"


def test_a_worker_that_was_stopped_for_longer_than_its_lease_changes_nothing(hasty_site: Site) -> None:
    site = hasty_site
    dataset = site.dataset()
    stopped = site.worker("ada")
    job_id = site.job(dataset, "hold")
    child = site.started(dataset)

    with site.watched(dataset) as seen:
        stopped.signal(signal.SIGSTOP)
        site.go(dataset)  # its child can end its work, and nobody takes it
        site.worker("bob")
        job = site.ended(job_id)
        site.settled(dataset, DatasetStatus.DONE)
        eventually(lambda: not list(site.folder(dataset).root.glob(".rubbish.*")), "was tidied")
        site.last_word(job_id)
        before = site.everything(dataset)

        stopped.signal(signal.SIGCONT)
        eventually(lambda: stopped.says("lease lost"), "noticed")
        stopped.signal(signal.SIGTERM)
        assert stopped.ends() == 0

    assert site.everything(dataset) == before
    assert job.worker_id == "bob"
    assert seen <= {None, job_id}
    assert not is_alive(child)


def test_the_work_of_a_stopped_worker_ends_by_itself(hasty_site: Site) -> None:
    site = hasty_site
    dataset = site.dataset()
    worker = site.worker()
    site.job(dataset, "with_children")
    child = site.started(dataset)
    beside = int((site.folder(dataset).root / "beside").read_text())

    worker.signal(signal.SIGSTOP)

    eventually(lambda: not is_alive(child) and not is_alive(beside), "ended, though nobody told it to")
    assert Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_worker_that_cannot_reach_the_database_ends_its_work_within_a_lease_and_goes_on_after(
    hasty_site: Site,
) -> None:
    site = hasty_site
    dataset = site.dataset()
    worker = site.worker(lock_patience_seconds=1)
    job_id = site.job(dataset, "hold")
    child = site.started(dataset)

    with site.store_locked():
        eventually(lambda: not is_alive(child), "ended what it could not renew")
        eventually(lambda: worker.says("no answer to a claim"), "reported the outage")
        assert worker.process.poll() is None
    site.go(dataset)

    job = site.ended(job_id)
    assert job.status is JobStatus.COMPLETED
    assert job.history[0].outcome == "lost"
    site.settled(dataset, DatasetStatus.DONE)


def test_a_full_disk_is_waited_for(own_site: Site) -> None:
    site = own_site
    disk = site.root / "datasets"
    disk.mkdir()
    mounted = os.system(f"mount -t tmpfs -o size=8m tmpfs '{disk}' 2>/dev/null")
    if mounted != 0:
        pytest.skip("a small disk to fill needs the right to mount one")
    try:
        dataset = site.dataset()
        site.worker()
        job_id = site.job(dataset, "write_much")
        eventually(lambda: waits_for_its_retry(site.found(job_id)), "waited for its retry")
        job = site.found(job_id)
        assert job.error is not None
        assert (job.error.type, job.error.permanent) == ("NoSpace", False)
        eventually(lambda: not list(site.folder(dataset).root.glob("partial.*")), "was tidied")

        assert os.system(f"mount -o remount,size=256m '{disk}'") == 0
        site.hurry(job_id)

        assert site.ended(job_id).status is JobStatus.COMPLETED
        assert site.form_of(dataset) == job_id
    finally:
        site.close()
        os.system(f"umount -l '{disk}'")


def test_what_a_dead_worker_had_published_is_finished_and_not_done_again(own_site: Site) -> None:
    site = own_site
    dataset = site.dataset()
    job_id = site.job(dataset, "read_damaged")  # it would fail if it were run
    claimed = JobQueueManager(site.store, lease_seconds=0.1).get_next_job("dead")
    assert claimed is not None
    site.publish_by_hand(claimed)

    worker = site.worker()

    job = site.ended(job_id)
    assert (job.status, job.result) == (JobStatus.COMPLETED, {"by": "hand"})
    target = site.settled(dataset, DatasetStatus.DONE)
    assert target.forms[-1]["token"] == claimed.token < job.token
    assert json.dumps(dict(target.forms[-1]))
    worker.signal(signal.SIGTERM)
    worker.ends()
    losses = [each.value for each in site.store.counters.all() if each.name == "scientistcloud_lease_losses_total"]
    assert losses == [1]


def test_a_deleted_data_set_goes_with_folder_record_and_secrets_and_one_that_is_not_deleted_stays(
    own_site: Site,
) -> None:
    site = own_site
    dataset, other = site.dataset(), site.dataset(status=DatasetStatus.DONE)
    now = datetime.now(UTC)
    site.store.credentials.add(
        Credential(reference="key", user="ada", sealed="…", created_at=now, expires_at=now + timedelta(days=1))
    )
    site.queue.cancel_job(site.job(dataset, job_type="dataset_import", credential="key"))
    retiring.delete(site.store, dataset)
    refused = site.job(other, job_type="dataset_deletion")
    site.worker(tasks=(), KEEP_DELETED_DAYS=0)

    eventually(lambda: site.store.targets.get(dataset) is None, "removed")

    eventually(lambda: all(job.status.ended for job in site.queue.list_jobs(dataset_uuid=dataset)), "ended")
    assert [job.status for job in site.queue.list_jobs(dataset_uuid=dataset)] == ["cancelled", "completed"]
    eventually(lambda: site.store.credentials.sealed("key") is None, "was forgotten")
    assert not site.folder(dataset).root.exists()
    job = site.ended(refused)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "is not deleted" in job.error.message
    assert (site.folder(other).source / "scan.tif").exists()
