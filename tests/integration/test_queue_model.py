"""The queue against a short reference in memory: whatever is called in whatever order, both agree."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mongo_server import drop, new_database
from scientistcloud import JobQueueManager, open_store
from scientistcloud.errors import AlreadyFinished, Cancelled, InvalidTransition, LeaseLost
from scientistcloud.ports import Store
from scientistcloud.records import Job
from scientistcloud.testing.clock import ManualClock

_MEMORY = Path("/dev/shm")
DATASETS = [f"{n}0000000-0000-4000-8000-000000000000" for n in range(1, 4)]


@dataclass
class Known:
    """What the reference knows of one job."""

    place: int  # in the order of creation of all jobs
    dataset: str
    priority: int
    tries: int
    run_at: float
    seq: int
    status: str = "pending"
    waits: str | None = None
    head: bool = False
    since: float = 0.0  # claimable since
    attempt: int = 0
    token: int = 0
    beat: float = 0.0
    asked: bool = False
    outcomes: list[str] = field(default_factory=list)


class Reference:
    """The queue in a hundred lines, for one thread and without a disk."""

    def __init__(self, lease_seconds: float) -> None:
        self.lease_seconds = lease_seconds
        self.jobs: dict[str, Known] = {}
        self.seqs = dict.fromkeys(DATASETS, 0)
        self.tokens = dict.fromkeys(DATASETS, 0)
        self.now = 0.0

    def headless(self, dataset: str) -> bool:
        return not any(job.head for job in self.jobs.values() if job.dataset == dataset)

    def create(self, job_id: str, dataset: str, *, priority: int, tries: int, delay: float) -> None:
        self.seqs[dataset] += 1
        run_at = self.now + delay
        job = Known(len(self.jobs), dataset, priority, tries, run_at, self.seqs[dataset])
        self.jobs[job_id] = job
        self.join(job, since=self.now) if delay <= 0 else self.pause(job)

    def join(self, job: Known, *, since: float) -> None:
        if self.headless(job.dataset):
            job.head, job.waits, job.since = True, "nothing", since
        else:
            job.waits = "turn"

    def pause(self, job: Known) -> None:
        job.status, job.waits = "pending", "time"

    def end(self, job: Known, status: str) -> None:
        headed, job.head = job.head, False
        job.status, job.waits = status, None
        turns = [other for other in self.jobs.values() if other.dataset == job.dataset and other.waits == "turn"]
        if headed and turns:
            self.join(min(turns, key=lambda other: other.seq), since=self.now)

    def keep_house(self, run_at_of: dict[str, float]) -> None:
        for job_id, job in self.jobs.items():
            if job.status == "running" and job.beat + self.lease_seconds < self.now:
                job.outcomes.append("lost")
                if job.asked or job.attempt >= job.tries:
                    self.tokens[job.dataset] += 1
                    job.token = self.tokens[job.dataset]
                    self.end(job, "cancelled" if job.asked else "failed")
                else:
                    job.run_at = run_at_of[job_id]  # its pause is jittered
                    assert 0 < job.run_at - self.now < 901
                    self.pause(job)
        due = [job for job in self.jobs.values() if job.waits == "time" and job.run_at <= self.now]
        for job in sorted(due, key=lambda job: (not job.head, job.run_at, job.place)):
            if job.head:
                job.waits, job.since = "nothing", job.run_at
            else:
                self.join(job, since=job.run_at)

    def ranks(self) -> dict[str, float]:
        return {
            job_id: job.since + 600 * (job.priority - 1)
            for job_id, job in self.jobs.items()
            if job.waits == "nothing"
        }

    def claim(self, job_id: str) -> None:
        job = self.jobs[job_id]
        self.tokens[job.dataset] += 1
        job.status, job.waits, job.attempt, job.token = "running", None, job.attempt + 1, self.tokens[job.dataset]
        job.beat = self.now

    def holds(self, handle: Job, *already: str) -> bool | None:
        """True: its attempt runs; None: it said so before; False: it lost the job."""
        job = self.jobs[handle.job_id]
        if job.token != handle.token:
            return False
        if job.status == "running":
            return True
        return None if job.outcomes[-1] in already else False

    def close(self, job: Known, outcome: str, status: str) -> None:
        job.outcomes.append(outcome)
        self.end(job, status)


class QueueMachine(RuleBasedStateMachine):
    """Calls on the queue, each followed by a comparison of every job."""

    lease_seconds = 30.0
    #: How much time may pass at once.
    steps_seconds: Sequence[int] = (1, 4, 29, 31, 700)

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.began = self.clock.now()
        self.store = self.open()
        self.queue = JobQueueManager(self.store, lease_seconds=self.lease_seconds)
        self.model = Reference(self.lease_seconds)
        self.handles: list[Job] = []

    def open(self) -> Store:
        # In memory where there is such a folder: what a disk does is other tests' subject.
        self.folder = Path(tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else None))
        return open_store(f"sqlite:///{self.folder}/scientistcloud.db", clock=self.clock)

    def forget(self) -> None:
        shutil.rmtree(self.folder)

    def teardown(self) -> None:
        self.store.close()
        self.forget()

    @initialize()
    def a_few_jobs(self) -> None:
        for dataset in (*DATASETS, DATASETS[0]):
            self.create(dataset, 2, 2, 0)

    @rule(
        dataset=st.sampled_from(DATASETS),
        priority=st.integers(1, 3),
        tries=st.integers(1, 3),
        delay=st.sampled_from([0, 0, 0, 5, 700]),
    )
    def create(self, dataset: str, priority: int, tries: int, delay: int) -> None:
        job_id = self.queue.create_job(
            dataset_uuid=dataset,
            job_type="dataset_conversion",
            parameters={},
            priority=priority,
            max_attempts=tries,
            run_at=self.clock.now() + timedelta(seconds=delay),
        )
        self.model.create(job_id, dataset, priority=priority, tries=tries, delay=delay)

    @rule(worker=st.sampled_from(["ada", "bob"]))
    def claim(self, worker: str) -> None:
        self._claimed(self.queue.get_next_job(worker))

    @rule(data=st.data())
    def time_passes(self, data: st.DataObject) -> None:
        seconds = data.draw(st.sampled_from(self.steps_seconds))
        self.clock.advance(seconds)
        self.age(seconds)
        self.model.now += seconds

    def age(self, seconds: float) -> None:
        """Where the clock alone does not do it, let leases grow old."""

    @rule()
    def recover(self) -> None:
        self.store.jobs.recover()
        self.model.keep_house(self._run_at())

    @precondition(lambda self: self.handles)
    @rule(data=st.data(), next_too=st.booleans())
    def complete(self, data: st.DataObject, next_too: bool) -> None:
        handle = data.draw(st.sampled_from(self.handles))
        holds = self.model.holds(handle, "completed")
        if holds is False:
            with pytest.raises(LeaseLost):
                self.queue.complete_job(handle)
            return
        following = self.queue.complete_job(handle, claim_next=next_too)
        if holds:
            self.model.close(self.model.jobs[handle.job_id], "completed", "completed")
        if next_too:
            self._claimed(following)

    @precondition(lambda self: self.handles)
    @rule(data=st.data(), permanent=st.booleans())
    def fail(self, data: st.DataObject, permanent: bool) -> None:
        handle = data.draw(st.sampled_from(self.handles))
        holds = self.model.holds(handle, "failed", "cancelled")
        if holds is False:
            with pytest.raises(LeaseLost):
                self.queue.fail_job(handle, "oops")
            return
        self.queue.fail_job(handle, "oops", permanent=permanent)
        if not holds:
            return
        job = self.model.jobs[handle.job_id]
        if job.asked:
            self.model.close(job, "cancelled", "cancelled")
        elif permanent or job.attempt >= job.tries:
            self.model.close(job, "failed", "failed")
        else:
            job.outcomes.append("failed")
            job.run_at = self._run_at()[handle.job_id]
            self.model.pause(job)

    @precondition(lambda self: self.handles)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(self.handles))
        holds = self.model.holds(handle, "released", "cancelled")
        if holds is False:
            with pytest.raises(LeaseLost):
                self.queue.release_job(handle)
            return
        self.queue.release_job(handle)
        job = self.model.jobs[handle.job_id]
        if holds and job.asked:
            self.model.close(job, "cancelled", "cancelled")
        elif holds:
            job.outcomes.append("released")
            job.attempt -= 1
            job.status, job.waits, job.since = "pending", "nothing", self.model.now

    @precondition(lambda self: self.handles)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(self.handles))
        holds = self.model.holds(handle, "cancelled")
        if holds is False:
            with pytest.raises(LeaseLost):
                self.queue.acknowledge_cancel(handle)
            return
        self.queue.acknowledge_cancel(handle)
        if holds:
            self.model.close(self.model.jobs[handle.job_id], "cancelled", "cancelled")

    @precondition(lambda self: self.handles)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(self.handles))
        job = self.model.jobs[handle.job_id]
        if not self.model.holds(handle):
            with pytest.raises(LeaseLost):
                self.queue.heartbeat(handle)
            return
        job.beat = self.model.now
        if job.asked:
            with pytest.raises(Cancelled):
                self.queue.heartbeat(handle)
        else:
            self.queue.heartbeat(handle)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(list(self.model.jobs)))
        job = self.model.jobs[job_id]
        if job.status in ("completed", "failed", "cancelled"):
            with pytest.raises(AlreadyFinished):
                self.queue.cancel_job(job_id)
            return
        self.queue.cancel_job(job_id)
        if job.status == "running":
            job.asked = True
        else:
            self.model.end(job, "cancelled")

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(list(self.model.jobs)))
        job = self.model.jobs[job_id]
        if job.status not in ("failed", "cancelled"):
            with pytest.raises(InvalidTransition):
                self.queue.retry_job(job_id)
            return
        self.queue.retry_job(job_id)
        self.model.seqs[job.dataset] += 1
        job.status, job.attempt, job.asked, job.seq = "pending", 0, False, self.model.seqs[job.dataset]
        self.model.join(job, since=self.model.now)

    @invariant()
    def both_agree(self) -> None:
        jobs = {job.job_id: job for job in self.queue.list_jobs(limit=1000)}
        assert jobs.keys() == self.model.jobs.keys()
        for job_id, known in self.model.jobs.items():
            job = jobs[job_id]
            state = (job.status, job.waits_for, job.attempt, job.token, job.seq, job.cancel_requested)
            assert state == (known.status, known.waits, known.attempt, known.token, known.seq, known.asked), job
            assert (job.head is not None) == known.head
            assert [attempt.outcome for attempt in job.history] == known.outcomes[-10:]
        running = [job.dataset_uuid for job in jobs.values() if job.status == "running"]
        assert len(running) == len(set(running))

    def _claimed(self, job: Job | None) -> None:
        self.model.keep_house(self._run_at())
        ranks = self.model.ranks()
        if job is None:
            assert not ranks
            return
        assert ranks[job.job_id] == min(ranks.values())
        self.model.claim(job.job_id)
        self.handles = [*self.handles, job][-8:]

    def _run_at(self) -> dict[str, float]:
        return {job.job_id: (job.run_at - self.began).total_seconds() for job in self.queue.list_jobs(limit=1000)}


class OverTheWire(QueueMachine):
    """On a server, whose clock cannot be moved: running jobs are made to have sent their heartbeats earlier.

    Next to these times it does not matter how long the test itself takes.
    """

    lease_seconds = 3500.0
    steps_seconds = (1, 4, 1000, 3000, 4000, 70_000)
    server = ""

    def open(self) -> Store:
        self.url = new_database(self.server)
        self.client = pymongo.MongoClient[dict[str, Any]](self.url, tz_aware=True)
        return open_store(self.url, clock=self.clock)

    def forget(self) -> None:
        self.client.close()
        drop(self.url)

    def age(self, seconds: float) -> None:
        jobs = self.client.get_default_database().jobs
        for document in jobs.find({"status": "running"}):
            document["heartbeat_at"] -= timedelta(seconds=seconds)
            jobs.replace_one({"_id": document["_id"]}, document)


def run(machine: type[QueueMachine], *, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def over_the_wire(server: str) -> type[QueueMachine]:
    return type("OverTheWireHere", (OverTheWire,), {"server": server})


def test_the_queue_does_what_the_reference_does() -> None:
    run(QueueMachine, examples=40, steps=30)


def test_the_queue_on_a_server_does_what_the_reference_does(mongodb_server: str) -> None:
    run(over_the_wire(mongodb_server), examples=8, steps=25)


@pytest.mark.long
def test_the_queue_does_what_the_reference_does_for_long() -> None:
    run(QueueMachine, examples=300, steps=60)


@pytest.mark.long
def test_the_queue_on_a_server_does_what_the_reference_does_for_long(mongodb_server: str) -> None:
    run(over_the_wire(mongodb_server), examples=20, steps=40)
