"""`scientistcloud jobs` and `stats`, as an operator types them, on a real database."""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from scientistcloud import JobQueueManager, open_store
from scientistcloud.cli import jobs_watch, main
from scientistcloud.ports import Store
from scientistcloud.records import Dataset, DatasetStatus, JobError, Progress, Worker


class Said(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """What a command prints, run in this process: a new one takes a second each time."""
    monkeypatch.setenv("SCIENTISTCLOUD_DATA_DIR", str(tmp_path))

    def command(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["scientistcloud", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, *capsys.readouterr())

    return command


@pytest.fixture
def job_id(tmp_path: Path) -> str:
    store = open_store(f"sqlite:///{tmp_path / 'scientistcloud.db'}")
    created = JobQueueManager(store).create_job(
        dataset_uuid=str(uuid.uuid4()), job_type="dataset_conversion", parameters={"sensor_type": "TIFF"}
    )
    store.close()
    return created


def test_an_operator_lists_shows_cancels_and_retries_a_job(run: Run, job_id: str) -> None:
    listed = run("jobs", "list", "--json")
    cancelled = run("jobs", "cancel", job_id)
    shown = run("jobs", "show", job_id, "--json")
    again = run("jobs", "retry", job_id)
    table = run("jobs", "list", "--status", "pending")

    assert [job["job_id"] for job in json.loads(listed.stdout)] == [job_id]
    assert cancelled.stdout == f"{job_id} is cancelled\n"
    assert json.loads(shown.stdout)["status"] == "cancelled"
    assert again.stdout == f"{job_id} is pending\n"
    assert job_id in table.stdout


def test_cancelling_a_job_that_has_ended_says_so_in_one_line(run: Run, job_id: str) -> None:
    run("jobs", "cancel", job_id)

    again = run("jobs", "cancel", job_id)

    assert again.returncode == 2
    assert len(again.stderr.splitlines()) == 1
    assert job_id in again.stderr


def test_a_job_without_an_attempt_has_no_log_and_says_so(run: Run, job_id: str) -> None:
    said = run("jobs", "logs", job_id)

    assert said.returncode == 0
    assert said.stdout == ""
    assert "no attempt of it has begun" in said.stderr


def test_the_figures_of_the_queue_count_what_waits(run: Run, job_id: str) -> None:
    stats = json.loads(run("stats", "--json").stdout)

    assert stats["by_status"]["pending"] == 1
    assert stats["waiting"]["nothing"] == 1
    assert stats["workers"] == []
    assert job_id


def fail(data_dir: Path, *, of: str | None = None, error: str = "OSError", times: int = 1) -> list[str]:
    """Jobs that failed for good, each of a data set of its own, or all of the data set `of`."""
    store = open_store(f"sqlite:///{data_dir / 'scientistcloud.db'}")
    queue = JobQueueManager(store)
    failed = []
    for _ in range(times):
        job_id = queue.create_job(
            dataset_uuid=of or a_dataset(store), job_type="dataset_conversion", parameters={}, priority=1
        )
        job = queue.get_next_job("w")
        assert job is not None
        assert job.job_id == job_id
        queue.fail_job(job, JobError(type=error, message="scan_07.tif ends after 3 of 12 pages", permanent=True))
        failed.append(job_id)
    store.close()
    return failed


def a_dataset(store: Store) -> str:
    now = store.clock.now()
    dataset = Dataset(
        uuid=str(uuid.uuid4()),
        user="ada@example.org",
        name="heart",
        sensor="auto",
        status=DatasetStatus.CONVERSION_ERROR,
        created_at=now,
        updated_at=now,
        closed_at=now,
    )
    store.datasets.add(dataset)
    return dataset.uuid


def test_dead_letters_are_grouped_by_what_went_wrong(run: Run, tmp_path: Path) -> None:
    tiffs = fail(tmp_path, error="UnreadableSource", times=3)
    fail(tmp_path, error="OSError")

    said = run("jobs", "failed")
    groups = json.loads(run("jobs", "failed", "--json").stdout)

    assert [(group["error"], group["number"]) for group in groups] == [("UnreadableSource", 3), ("OSError", 1)]
    assert groups[0]["newest"]["job_id"] == tiffs[-1]
    assert "scan_07.tif ends after 3 of 12 pages" in said.stdout
    assert run("jobs", "failed", "--error", "nothing of that").stdout == "no job has failed\n"


def test_all_that_failed_alike_are_retried_in_one_command(run: Run, tmp_path: Path) -> None:
    tiffs = fail(tmp_path, error="UnreadableSource", times=2)
    disk = fail(tmp_path, error="OSError")[0]

    said = run("jobs", "retry", "--failed", "--error", "unreadablesource", "--type", "dataset_conversion")

    assert said.stdout.splitlines() == [f"{job_id} is pending" for job_id in tiffs]
    assert "2 of 2" in said.stderr
    assert [job["job_id"] for job in json.loads(run("jobs", "list", "--status", "failed", "--json").stdout)] == [
        disk
    ]
    store = open_store(f"sqlite:///{tmp_path / 'scientistcloud.db'}")
    job = store.jobs.get(tiffs[0])
    assert job is not None
    target = store.targets.get(job.dataset_uuid)
    store.close()
    assert target is not None
    assert target.status is DatasetStatus.CONVERSION_QUEUED


def test_what_was_done_since_or_is_of_a_deleted_data_set_is_not_retried(run: Run, tmp_path: Path) -> None:
    gone = fail(tmp_path)[0]
    store = open_store(f"sqlite:///{tmp_path / 'scientistcloud.db'}")
    job = store.jobs.get(gone)
    assert job is not None
    before = store.targets.get(job.dataset_uuid)
    assert before is not None
    store.targets.update(before, replace(before, deleted_at=store.clock.now()))
    redone = a_dataset(store)
    done_since = fail(tmp_path, of=redone)[0]
    queue = JobQueueManager(store)
    queue.create_job(dataset_uuid=redone, job_type="dataset_conversion", parameters={})
    job = queue.get_next_job("w")
    assert job is not None
    queue.complete_job(job)
    store.close()

    said = run("jobs", "retry", "--failed")

    assert said.stdout == ""
    assert "0 of 2" in said.stderr
    for job_id in (gone, done_since):
        assert json.loads(run("jobs", "show", job_id, "--json").stdout)["status"] == "failed"


@pytest.mark.parametrize("words", [[], ["--error", "x"], ["JOB", "--failed"]])
def test_retry_wants_one_job_or_all_that_failed(run: Run, job_id: str, words: list[str]) -> None:
    said = run("jobs", "retry", *[job_id if word == "JOB" else word for word in words])

    assert said.returncode == 2
    assert "--failed" in said.stderr


def test_an_operator_pauses_a_job_type_and_lets_it_go_on(run: Run, job_id: str, tmp_path: Path) -> None:
    paused = run("jobs", "pause", "dataset_conversion")
    shown = run("jobs", "show", job_id)
    store = open_store(f"sqlite:///{tmp_path / 'scientistcloud.db'}")
    queue = JobQueueManager(store)
    while_paused = queue.get_next_job("w")
    resumed = run("jobs", "resume", "dataset_conversion")
    after = queue.get_next_job("w")
    store.close()

    assert paused.stdout == "dataset_conversion is paused: 1 pending, 0 running\n"
    assert "jobs resume dataset_conversion" in shown.stdout
    assert while_paused is None
    assert resumed.stdout.startswith("dataset_conversion is resumed")
    assert after is not None


def test_a_type_is_paused_before_its_first_job_comes(run: Run, job_id: str) -> None:
    said = run("jobs", "pause", "file_extraction")

    assert said.stdout == "file_extraction is paused: 0 pending, 0 running\n"
    assert job_id


def test_a_type_that_nobody_knows_cannot_be_paused_by_a_slip(run: Run, job_id: str) -> None:
    said = run("jobs", "pause", "dataset_convertion")

    assert said.returncode == 2
    assert "known are dataset_conversion" in said.stderr
    assert job_id


def test_a_job_that_nobody_can_do_says_what_is_missing(run: Run, job_id: str, tmp_path: Path) -> None:
    alone = run("jobs", "show", job_id)
    store = open_store(f"sqlite:///{tmp_path / 'scientistcloud.db'}")
    now = store.clock.now()
    store.workers.announce(
        Worker(
            worker_id="lab-1",
            host="lab",
            slots=1,
            job_types=("file_extraction",),
            sensors=(),
            version="1",
            started_at=now,
            last_seen=now,
        )
    )
    store.close()
    with_another = run("stats")

    assert "no worker runs" in alone.stdout
    assert "no worker handles dataset_conversion (they handle file_extraction)" in with_another.stdout


def test_a_job_says_what_it_waits_for(run: Run, job_id: str, tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'scientistcloud.db'}")
    queue = JobQueueManager(store)
    job = queue.get_job(job_id)
    assert job is not None
    behind = queue.create_job(dataset_uuid=job.dataset_uuid, job_type="dataset_preview", parameters={})
    nobody_works = run("jobs", "show", behind)
    claimed = queue.get_next_job("ada")
    assert claimed is not None
    it_runs = run("jobs", "show", behind)
    queue.fail_job(claimed, "the disk hiccuped")
    it_pauses = run("jobs", "show", behind)
    store.close()

    first = f"waits, because    job {job_id} of its data set comes first, which"
    assert f"{first} waits: no worker runs" in nobody_works.stdout
    assert f"{first} runs on ada\n" in it_runs.stdout
    assert f"{first} waits: its time comes at " in it_pauses.stdout
    assert ", after JobError\n" in it_pauses.stdout


def test_one_job_is_watched_to_its_end(run: Run, job_id: str, tmp_path: Path) -> None:
    def work() -> None:
        store = open_store(f"sqlite:///{tmp_path / 'scientistcloud.db'}")
        queue = JobQueueManager(store)
        job = queue.get_next_job("ada")
        assert job is not None
        queue.heartbeat(job, progress=Progress(fraction=0.4, step="level 2 of 5"))
        time.sleep(0.6)  # so long the watcher may take to look
        queue.complete_job(job)
        store.close()

    worker = threading.Thread(target=work)
    worker.start()
    said = run("jobs", "watch", job_id)
    worker.join()

    assert said.returncode == 0
    assert said.stdout.splitlines()[-1].split()[1:3] == [job_id, "completed"]
    assert any("level 2 of 5" in line for line in said.stdout.splitlines())
    assert run("jobs", "watch", fail(tmp_path)[0]).returncode == 1


def test_the_queue_is_watched_without_what_ended_before(tmp_path: Path) -> None:
    fail(tmp_path)
    store = open_store(f"sqlite:///{tmp_path / 'scientistcloud.db'}")
    queue = JobQueueManager(store)
    steps: Iterator[Callable[[], object]] = iter(
        [
            lambda: queue.create_job(dataset_uuid=str(uuid.uuid4()), job_type="dataset_conversion", parameters={}),
            lambda: queue.get_next_job("ada"),
            lambda: queue.heartbeat(queue.list_jobs(status="running")[0], progress=0.5),
        ]
    )

    seen = []
    for job in jobs_watch.changes(store, wanted=lambda _job: True, pause=lambda _seconds: next(steps)()):
        seen.append((str(job.status), job.progress.fraction))
        if len(seen) == 3:
            break
    store.close()

    assert seen == [("pending", 0.0), ("running", 0.0), ("running", 0.5)]


def test_verify_prints_the_three_checks_and_succeeds(run: Run, job_id: str) -> None:
    said = run("verify")

    assert said.returncode == 0, said.stdout
    assert said.stdout.count("yes (") == 3
    assert said.stdout.count("sent: ") >= 3
    assert job_id


def test_looking_at_a_folder_without_a_database_makes_none(run: Run, tmp_path: Path) -> None:
    said = run("jobs", "list")

    assert said.returncode == 2
    assert "SCIENTISTCLOUD_DATA_DIR" in said.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["nonsense"], ["jobs", "show"], ["jobs", "list", "--limit", "many"]])
def test_a_wrong_word_is_one_line_and_status_2(run: Run, words: list[str]) -> None:
    said = run(*words)

    assert said.returncode == 2
    assert len(said.stderr.splitlines()) == 1


def test_a_wrong_setting_names_its_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIENTISTCLOUD_PORT", "http")

    said = run("stats")

    assert said.returncode == 2
    assert "SCIENTISTCLOUD_PORT" in said.stderr
    assert len(said.stderr.splitlines()) == 1
