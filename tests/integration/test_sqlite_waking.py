"""How sleeping workers learn of work: by the FIFO, by the slow look, by the next due time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scientistcloud import JobQueueManager, open_store
from scientistcloud.database.sqlite import waking
from scientistcloud.ports import Store

DATASETS = [f"{n}0000000-0000-4000-8000-000000000000" for n in range(1, 6)]
NEVER_SECONDS = 120.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scientistcloud.db"


def opened(path: Path) -> Store:
    return open_store(f"sqlite:///{path}")


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = opened(path)
    yield store
    store.close()


def create(store: Store, *datasets: str, run_at: datetime | None = None) -> None:
    JobQueueManager(store).create_jobs(
        [
            {"dataset_uuid": dataset, "job_type": "dataset_conversion", "parameters": {}, "run_at": run_at}
            for dataset in datasets
        ]
    )


def slept(store: Store, seconds: float = NEVER_SECONDS) -> float:
    """How long it takes until something wakes a worker that has seen all there is."""
    while store.jobs.wait(0.05):
        pass
    began = time.monotonic()
    store.jobs.wait(seconds)
    return time.monotonic() - began


def test_a_byte_wakes_one_sleeper_without_any_look(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waking, "_LOOK_ROUND_SECONDS", NEVER_SECONDS)
    other = opened(path)
    creator = threading.Timer(0.2, create, [other, DATASETS[0]])
    creator.start()

    assert slept(store) < NEVER_SECONDS / 2
    creator.join()
    other.close()


def test_a_completion_wakes_for_the_next_of_its_line_who_can_do_it(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waking, "_LOOK_ROUND_SECONDS", NEVER_SECONDS)
    other = opened(path)
    queue = JobQueueManager(other)
    for job_type in ("file_extraction", "dataset_conversion"):
        queue.create_job(dataset_uuid=DATASETS[0], job_type=job_type, parameters={})
    job = queue.get_next_job("extracts", job_types=["file_extraction"])
    assert job is not None
    ended = threading.Timer(0.2, lambda: queue.complete_job(job, claim_next=True, job_types=["file_extraction"]))
    ended.start()

    assert slept(store) < NEVER_SECONDS / 2
    ended.join()
    other.close()


def test_a_claim_that_leaves_more_wakes_the_next(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waking, "_LOOK_ROUND_SECONDS", NEVER_SECONDS)
    got: list[str] = []
    over = threading.Event()

    def work(worker_id: str) -> None:
        while not over.is_set():  # by the port, for the queue's manager looks by itself every second
            jobs = store.jobs.claim(worker_id, limit=1, job_types=None, lease_seconds=600)
            if jobs:
                got.append(jobs[0].dataset_uuid)
                return
            store.jobs.wait(NEVER_SECONDS)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(len(DATASETS))]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    create(store, *DATASETS)  # one byte
    deadline = time.monotonic() + 20
    while len(got) < len(DATASETS) and time.monotonic() < deadline:
        time.sleep(0.01)
    taken = sorted(got)
    over.set()
    while any(thread.is_alive() for thread in threads):
        store.jobs._waking.ring()  # type: ignore[attr-defined]  # past the port, to let them go
        time.sleep(0.001)

    assert taken == DATASETS


def test_where_there_is_no_fifo_the_slow_look_does(path: Path) -> None:
    path.with_name(path.name + ".wake").write_text("somebody's file")
    store, other = opened(path), opened(path)
    creator = threading.Timer(0.2, create, [other, DATASETS[0]])
    creator.start()

    assert slept(store) < NEVER_SECONDS / 2
    assert path.with_name(path.name + ".wake").read_text() == "somebody's file"
    creator.join()
    store.close()
    other.close()


def test_a_sleeper_wakes_when_the_next_job_is_due(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waking, "_LOOK_ROUND_SECONDS", NEVER_SECONDS)
    create(store, DATASETS[0], run_at=datetime.now(UTC) + timedelta(seconds=0.5))
    create(store, DATASETS[1], run_at=datetime.now(UTC) + timedelta(days=1))

    assert slept(store) < NEVER_SECONDS / 2
    assert JobQueueManager(store).get_next_job("ada") is not None


def test_what_was_committed_between_a_look_and_the_sleep_is_not_missed(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waking, "_LOOK_ROUND_SECONDS", NEVER_SECONDS)
    monkeypatch.setattr(waking.Waking, "ring", lambda self: None)  # the byte went to a worker that then died
    while store.jobs.wait(0):
        pass
    assert JobQueueManager(store).get_next_job("ada") is None

    create(store, DATASETS[0])

    assert store.jobs.wait(NEVER_SECONDS)


def test_bytes_that_nobody_reads_hold_nobody_up(store: Store) -> None:
    for _ in range(70_000):
        store.jobs._waking.ring()  # type: ignore[attr-defined]  # past the port, to fill the pipe

    create(store, DATASETS[0])

    assert JobQueueManager(store).get_next_job("ada") is not None


def test_a_hundred_idle_workers_are_not_all_woken_for_one_job(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waking, "_LOOK_ROUND_SECONDS", NEVER_SECONDS)
    asleep, woken, over = threading.Semaphore(0), [], threading.Event()

    sleeping: list[int] = []

    def idle(name: str) -> None:
        while store.jobs.wait(0):
            pass
        sleeping.append(threading.get_native_id())
        asleep.release()
        if store.jobs.wait(NEVER_SECONDS) and not over.is_set():
            woken.append(name)

    sleepers = [threading.Thread(target=idle, args=(f"w{n}",)) for n in range(100)]
    for sleeper in sleepers:
        sleeper.start()
    for _ in sleepers:
        asleep.acquire(timeout=60)
    before = -1
    while before != (before := switches(sleeping)):  # the last of them are on their way into the kernel
        time.sleep(0.5)

    create(store, DATASETS[0])
    deadline = time.monotonic() + 60
    while not woken and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.5)  # for those that would come too
    over.set()
    number, wakened = len(woken), switches(sleeping) - before
    while any(sleeper.is_alive() for sleeper in sleepers):
        store.jobs._waking.ring()  # type: ignore[attr-defined]  # past the port, to let them go
        time.sleep(0.001)

    assert 1 <= number <= 5
    # Those whom the kernel wakes, and who find the byte gone, count too: all hundred with `select`.
    assert wakened < 50


def switches(threads: list[int]) -> int:
    """How often the kernel has given each of these threads of ours the processor again after it had slept."""
    return sum(
        int(line.split()[1])
        for thread in threads
        if (status := Path(f"/proc/self/task/{thread}/status")).exists()
        for line in status.read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )


def test_under_load_no_job_waits_for_a_worker_that_was_not_woken(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waking, "_LOOK_ROUND_SECONDS", NEVER_SECONDS)
    queue = JobQueueManager(store)
    done: list[str] = []
    overslept: list[str] = []
    ending = "verify_canary"  # handed out only where it is named

    def work(worker_id: str) -> None:
        woken = True
        while True:
            (job,) = store.jobs.claim(
                worker_id, limit=1, job_types=["dataset_conversion", ending], lease_seconds=60
            ) or (None,)
            if job is None:
                woken = store.jobs.wait(10)
                continue
            if not woken:
                overslept.append(job.job_id)
            woken = True
            queue.complete_job(job)
            if job.job_type == ending:
                return
            done.append(job.job_id)

    def make() -> None:
        for n in range(60):
            create(store, f"{n:08}-0000-4000-8000-{threading.get_ident() % 10**12:012}")
            time.sleep(0.001 * (n % 7))

    workers = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(8)]
    makers = [threading.Thread(target=make) for _ in range(3)]
    for thread in (*workers, *makers):
        thread.start()
    for thread in makers:
        thread.join(60)
    deadline = time.monotonic() + 60
    while len(done) < 180 and time.monotonic() < deadline:
        time.sleep(0.01)
    queue.create_jobs(
        [
            {"dataset_uuid": f"{n:08}-1111-4111-8111-111111111111", "job_type": ending, "parameters": {}}
            for n in range(8)
        ]
    )
    for thread in workers:
        thread.join(60)

    assert len(done) == 180
    assert overslept == []
