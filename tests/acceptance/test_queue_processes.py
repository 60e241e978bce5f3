"""The queue between processes: side by side, killed, stopped."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from scientistcloud import JobQueueManager, open_store
from scientistcloud.database.sqlite import locking
from scientistcloud.errors import Unavailable
from scientistcloud.ports import Store
from scientistcloud.records import Job, JobStatus

PROGRAMS = Path(__file__).with_name("queue_programs.py")
Process = subprocess.Popen[str]
Start = Callable[..., Process]
PATIENCE_SECONDS = 120.0
# So long that most of what is killed and stopped is in the middle of one.
SECONDS_A_JOB = 0.05


mongodb_for_long = pytest.mark.parametrize(
    "database_url", ["sqlite", pytest.param("mongodb", marks=pytest.mark.long)], indirect=True
)
sqlite_alone = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = open_store(database_url)
    yield store
    store.close()


@pytest.fixture
def queue(store: Store) -> JobQueueManager:
    return JobQueueManager(store)


@pytest.fixture
def start(database_url: str) -> Iterator[Start]:
    """``start("work", …)`` starts a program; all are ended with the test."""
    running: list[Process] = []

    def start(name: str, *arguments: object) -> Process:
        command = [sys.executable, str(PROGRAMS), name, database_url, *map(str, arguments)]
        running.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def create_many(queue: JobQueueManager, *, datasets: int, jobs_each: int) -> list[str]:
    uuids = [str(uuid.uuid4()) for _ in range(datasets)]
    return queue.create_jobs(
        [
            {"dataset_uuid": dataset_uuid, "job_type": "dataset_conversion", "parameters": {}}
            for _ in range(jobs_each)
            for dataset_uuid in uuids
        ]
    )


def said(process: Process, seconds: float = 120) -> list[list[str]]:
    """All that the process says until it ends by itself."""
    out, _ = process.communicate(timeout=seconds)
    return [line.split() for line in out.splitlines()]


def next_line(process: Process) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def check_order(jobs: list[Job]) -> None:
    """Of one data set no two accepted attempts overlap, and they come in the order of creation."""
    by_dataset: dict[str, list[Job]] = {}
    for job in jobs:
        by_dataset.setdefault(job.dataset_uuid, []).append(job)
    for line in by_dataset.values():
        line.sort(key=lambda job: job.seq)
        ends = [job.history[-1] for job in line]
        for earlier, later in pairwise(ends):
            assert earlier.finished_at <= later.started_at


def check_intact(url: str) -> None:
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@mongodb_for_long
def test_no_two_processes_get_the_same_job(queue: JobQueueManager, start: Start) -> None:
    ids = create_many(queue, datasets=25, jobs_each=6)

    workers = [start("work", f"w{n}", 60, 0, 0.5) for n in range(3)]
    done = [line[1] for worker in workers for line in said(worker) if line[0] == "completed"]

    assert Counter(done) == Counter(ids)
    jobs = queue.list_jobs(limit=1000)
    assert {job.status for job in jobs} == {JobStatus.COMPLETED}
    assert {job.attempt for job in jobs} == {1}
    check_order(jobs)


@mongodb_for_long
def test_a_sleeping_worker_of_another_process_is_woken(queue: JobQueueManager, start: Start) -> None:
    worker = start("work", "sleeper", 60, 0)
    assert next_line(worker) == "ready"

    job_id = create_many(queue, datasets=1, jobs_each=1)[0]

    assert next_line(worker).split()[:2] == ["claimed", job_id]
    assert next_line(worker).split()[:2] == ["completed", job_id]


@pytest.mark.parametrize(
    ("database_url", "threads", "number"),
    [("sqlite", 1, 150), ("sqlite", 6, 150), ("mongodb", 6, 40)],
    indirect=["database_url"],
)
def test_a_creator_that_is_killed_loses_nothing_it_was_told(
    database_url: str, store: Store, start: Start, threads: int, number: int
) -> None:
    creator = start("create", threads)
    told = [next_line(creator) for _ in range(number)]

    creator.kill()
    out, _ = creator.communicate()

    told += [line for line in out.splitlines() if len(line) == 36]  # the last may be cut off
    missing = [job_id for job_id in told if store.jobs.get(job_id) is None]
    assert missing == []
    healed = store.jobs.recover()
    if database_url.startswith("sqlite"):
        assert healed == 0  # there a job and its place in the line are one commit
    assert store.jobs.stats().waiting == {"nothing": sum(1 for _ in store.jobs.claimable()), "turn": 0, "time": 0}
    check_intact(database_url)


@sqlite_alone
def test_a_writer_that_is_killed_in_a_transaction_holds_nobody_up(queue: JobQueueManager, start: Start) -> None:
    holder = start("hold")
    assert next_line(holder) == "holding"

    holder.kill()
    holder.wait()

    assert create_many(queue, datasets=1, jobs_each=1)


@sqlite_alone
def test_a_writer_that_is_stopped_in_a_transaction_is_named(
    queue: JobQueueManager, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_many(queue, datasets=1, jobs_each=1)
    holder = start("hold")
    assert next_line(holder) == "holding"
    os.kill(holder.pid, signal.SIGSTOP)
    monkeypatch.setattr(locking, "PATIENCE_SECONDS", 1.0)

    with pytest.raises(Unavailable, match=rf"process {holder.pid} .*kill -CONT {holder.pid}"):
        create_many(queue, datasets=1, jobs_each=1)
    assert len(queue.list_jobs()) == 1  # who reads is not held up

    os.kill(holder.pid, signal.SIGCONT)
    assert holder.stdin is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert next_line(holder) == "done"
    assert create_many(queue, datasets=1, jobs_each=1)


def test_a_worker_that_is_killed_loses_its_job_to_another(queue: JobQueueManager, start: Start) -> None:
    (job_id,) = create_many(queue, datasets=1, jobs_each=1)
    victim = start("work", "victim", 0.5, 60)
    while not next_line(victim).startswith("claimed"):
        pass
    victim.kill()

    heir = start("work", "heir", 60, 0)
    while not (line := next_line(heir)).startswith("completed"):
        assert line

    job = queue.get_job(job_id)
    assert job is not None
    assert job.result == {"by": "heir", "token": job.token}
    assert [(each.worker_id, each.outcome) for each in job.history] == [("victim", "lost"), ("heir", "completed")]


def chaos(
    queue: JobQueueManager, database_url: str, start: Start, *, datasets: int, seconds: float, seed: int
) -> None:
    """Workers killed and stopped at random; afterwards every job is done once, in order, and all is intact."""
    dice = random.Random(seed)
    ids = create_many(queue, datasets=datasets, jobs_each=3)
    workers = [start("work", f"w{n}", 1, SECONDS_A_JOB) for n in range(3)]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(dice.uniform(0.1, 0.5))
        place = dice.randrange(len(workers))
        if dice.random() < 0.5:
            workers[place].kill()
            workers[place].wait()
            workers[place] = start("work", f"again {dice.random()}", 1, SECONDS_A_JOB)
        else:
            os.kill(workers[place].pid, signal.SIGSTOP)
            time.sleep(dice.uniform(0.1, 1.5))
            os.kill(workers[place].pid, signal.SIGCONT)
    until = time.monotonic() + PATIENCE_SECONDS
    while not all(job.status.ended for job in queue.list_jobs(limit=10_000)):
        assert time.monotonic() < until, f"seed {seed}: {queue.stats()}"
        time.sleep(0.1)

    jobs = queue.list_jobs(limit=10_000)
    assert [job.job_id for job in jobs] == ids, f"seed {seed}"
    for job in jobs:
        outcomes = [attempt.outcome for attempt in job.history]
        assert job.status.ended, f"seed {seed}"
        assert outcomes.count("completed") == (job.status is JobStatus.COMPLETED), f"seed {seed}"
        if job.status is JobStatus.COMPLETED:
            assert job.result is not None
            assert job.result["token"] == job.token, f"seed {seed}"
    check_order(jobs)
    check_intact(database_url)


def test_workers_killed_and_stopped_at_random_lose_and_double_nothing(
    queue: JobQueueManager, database_url: str, start: Start
) -> None:
    chaos(queue, database_url, start, datasets=24, seconds=3, seed=20260501)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
def test_long_chaos_loses_and_doubles_nothing(
    queue: JobQueueManager, database_url: str, start: Start, seed: int
) -> None:
    datasets = 300 if database_url.startswith("sqlite") else 60  # the stand-in for a server reads every document
    chaos(queue, database_url, start, datasets=datasets, seconds=30, seed=seed)
