"""The jobs of the queue: each method is one transaction; what only looks is in `looks`."""

# ruff: noqa: S608  # the names of columns are constants of `rows`

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from scientistcloud.database.sqlite.completions import decide
from scientistcloud.database.sqlite.connection import Database
from scientistcloud.database.sqlite.creations import Creations, Order
from scientistcloud.database.sqlite.looks import JobLooks
from scientistcloud.database.sqlite.steps import HOUSE_NEEDS_KEEPING, Steps, wanted_types
from scientistcloud.database.sqlite.waking import Waking
from scientistcloud.errors import CallersMistake, Cancelled, LeaseLost
from scientistcloud.jobs.lifecycle import (
    Beat,
    CancelAcknowledged,
    CancelAsked,
    Changes,
    Completed,
    Event,
    Failed,
    Released,
)
from scientistcloud.ports import Clock
from scientistcloud.records import (
    Job,
    JobError,
    Json,
    NewJob,
    Progress,
)

# Whether a claim of these types would find anything to do. Read before any lock is asked for.
_LOOK = f"""
    SELECT EXISTS (
        SELECT 1 FROM types WHERE {{types}}
        AND EXISTS (
            SELECT 1 FROM jobs INDEXED BY jobs_ready WHERE waits_for = 'nothing' AND job_type = types.job_type
        )
    ) OR {HOUSE_NEEDS_KEEPING}
"""

# Data sets whose line has no head though a job waits for its turn: not by our doing, but other clients can delete.
# The index of turns is read one data set at a time, not one job at a time, and so many of them at a look.
_LINES_AT_A_LOOK = 1000
_LINES = """
    WITH RECURSIVE lines (dataset_uuid) AS (
        SELECT min(dataset_uuid) FROM jobs INDEXED BY jobs_turn WHERE waits_for = 'turn' AND dataset_uuid > :after
        UNION ALL
        SELECT (
            SELECT min(dataset_uuid) FROM jobs INDEXED BY jobs_turn
            WHERE waits_for = 'turn' AND dataset_uuid > lines.dataset_uuid
        ) FROM lines WHERE lines.dataset_uuid IS NOT NULL
        LIMIT :limit
    )
    SELECT dataset_uuid, EXISTS (SELECT 1 FROM jobs WHERE head = lines.dataset_uuid)
    FROM lines WHERE dataset_uuid IS NOT NULL
"""

# The last number that a lane gave out is its data set's newest job.
_NOT_THE_NEWEST = "seq < (SELECT seq FROM lanes WHERE lanes.dataset_uuid = jobs.dataset_uuid)"
_OLD = f"SELECT n FROM jobs INDEXED BY jobs_finished WHERE {_NOT_THE_NEWEST} AND"


class SqliteJobs(JobLooks):
    """`ports.JobStore`."""

    def __init__(self, database: Database, clock: Clock, boot_id: str) -> None:
        super().__init__(database, clock)
        self._boot_id = boot_id
        self._creations = Creations(self._commit_creations)
        self._waking = Waking(database, self._seconds_to_next_due)
        self._tell_of_loss: Callable[[Job], None] = lambda _: None
        # Care looks at so many lines a round: it costs the same with a thousand and with a million of them.
        self._looked_at_lines_up_to = ""

    # -- creating --------------------------------------------------------------------------------

    def create(self, jobs: Sequence[NewJob], *, max_pending_per_dataset: int | None = None) -> list[str]:
        return self._creations.create(jobs, max_pending=max_pending_per_dataset)

    def _commit_creations(self, gather: Callable[[], list[Order]]) -> None:
        with self._steps() as steps:
            for order in gather():
                try:
                    order.job_ids = steps.insert_all(order.jobs, max_pending=order.max_pending)
                except CallersMistake as refused:
                    order.error = refused

    # -- working ---------------------------------------------------------------------------------

    def claim(
        self, worker_id: str, *, limit: int, job_types: Sequence[str] | None, lease_seconds: float
    ) -> list[Job]:
        if not self._worth_a_claim(job_types):
            return []
        with self._steps(durable=False) as steps:
            claimed = steps.claim(worker_id, limit=limit, job_types=job_types, lease_seconds=lease_seconds)
        return [replace(head, **changed) for head, changed in claimed]

    def heartbeat(self, job: Job, *, progress: Progress | None = None) -> Job:
        with self._steps(durable=False) as steps:
            now = steps.beat(job.job_id, Beat(job.token, progress))
        if now.cancel_requested:
            raise Cancelled(f"the end of job {job.job_id} was asked for; stop, and acknowledge it")
        return now

    def complete(
        self,
        job: Job,
        *,
        result: Json | None,
        claim_next: bool = False,
        job_types: Sequence[str] | None = None,
    ) -> Job | None:
        claimed = self.complete_many([(job, result)], claim_next=claim_next, job_types=job_types)
        return claimed[0] if claimed else None

    def complete_many(
        self,
        ends: Sequence[tuple[Job, Json | None]],
        *,
        claim_next: bool = False,
        job_types: Sequence[str] | None = None,
    ) -> list[Job]:
        claimed: list[tuple[Job, Changes]] = []
        events = [(job, Completed(job.token, result)) for job, result in ends]
        decided = decide(events, self._clock.now())
        with self._steps() as steps:
            lost = steps.complete(events, decided)
            worker_id, lease_seconds = ends[0][0].worker_id, ends[0][0].lease_seconds
            if claim_next and not lost and worker_id is not None and lease_seconds is not None:
                claimed = steps.claim(worker_id, limit=len(ends), job_types=job_types, lease_seconds=lease_seconds)
        if lost:
            raise LeaseLost("; ".join(map(str, lost)))
        return [replace(head, **changed) for head, changed in claimed]

    def fail(self, job: Job, error: JobError, *, retry_after_seconds: float) -> Job:
        return self._apply(job.job_id, Failed(job.token, error, retry_after_seconds))

    def release(self, job: Job) -> Job:
        return self._apply(job.job_id, Released(job.token))

    def acknowledge_cancel(self, job: Job) -> Job:
        return self._apply(job.job_id, CancelAcknowledged(job.token))

    # -- steering --------------------------------------------------------------------------------

    def cancel(self, job_id: str) -> Job:
        return self._apply(job_id, CancelAsked())

    def retry(self, job_id: str) -> Job:
        with self._steps() as steps:
            return steps.retry(job_id)

    def pause(self, job_type: str) -> None:
        self._set_paused(job_type, paused=True)

    def resume(self, job_type: str) -> None:
        self._set_paused(job_type, paused=False)
        self._waking.ring()

    # -- care ------------------------------------------------------------------------------------

    def recover(self, *, dead: Sequence[str] = ()) -> int:
        touched = 0
        while moved := self._moved(lambda steps: steps.reap(dead=dead)) if dead else 0:
            touched += moved
        while moved := self._moved(Steps.keep_house) if self._worth_a_claim([]) else 0:
            touched += moved
        with self._database.read() as connection:
            lines = connection.execute(
                _LINES, {"after": self._looked_at_lines_up_to, "limit": _LINES_AT_A_LOOK}
            ).fetchall()
        headless = [dataset_uuid for dataset_uuid, has_head in lines if not has_head]
        for dataset_uuid in headless:
            with self._steps() as steps:
                steps.promote(dataset_uuid)
        self._looked_at_lines_up_to = lines[-1][0] if len(lines) >= _LINES_AT_A_LOOK else ""
        return touched + len(headless)

    def on_loss(self, tell: Callable[[Job], None]) -> None:
        self._tell_of_loss = tell

    def adopt(self) -> int:
        adopted = 0
        while self._has_foreign() and (moved := self._moved(Steps.adopt)):
            adopted += moved
        return adopted

    def prune(self, *, before: datetime, keep: int | None = None, limit: int = 500) -> Sequence[str]:
        # Looked for without the writers' lock: all that is left may be the newest of as many data sets.
        with self._database.snapshot() as connection:
            old = connection.execute(
                f"{_OLD} finished_at < ? ORDER BY finished_at, n LIMIT ?", (before.timestamp(), limit)
            ).fetchall()
            if keep is not None:
                (ended,) = connection.execute(
                    "SELECT count(*) FROM jobs INDEXED BY jobs_finished WHERE finished_at IS NOT NULL"
                ).fetchone()
                if ended - keep > len(old):
                    old = connection.execute(
                        f"{_OLD} finished_at IS NOT NULL ORDER BY finished_at, n LIMIT ?",
                        (min(limit, ended - keep),),
                    ).fetchall()
        if not old:
            return []
        with self._database.write() as connection:
            rows = connection.execute(
                "DELETE FROM jobs WHERE n IN (SELECT value FROM json_each(?)) AND finished_at IS NOT NULL "
                f"AND {_NOT_THE_NEWEST} RETURNING job_id",
                (json.dumps([n for (n,) in old]),),
            ).fetchall()
        return [job_id for (job_id,) in rows]

    def remove(self, dataset_uuid: str) -> None:
        with self._database.write() as connection:
            connection.execute("DELETE FROM jobs WHERE dataset_uuid = ?", (dataset_uuid,))
            connection.execute("DELETE FROM lanes WHERE dataset_uuid = ?", (dataset_uuid,))

    # -- waking ----------------------------------------------------------------------------------

    def wait(self, seconds: float) -> bool:
        return self._waking.sleep(seconds)

    def rouse(self) -> None:
        self._waking.rouse()

    def close(self) -> None:
        self._waking.close()

    # -- details ---------------------------------------------------------------------------------

    def _set_paused(self, job_type: str, *, paused: bool) -> None:
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO types (job_type, paused) VALUES (?, ?) "
                "ON CONFLICT (job_type) DO UPDATE SET paused = excluded.paused",
                (job_type, paused),
            )

    @contextmanager
    def _steps(self, *, durable: bool = True) -> Iterator[Steps]:
        with self._database.write(durable=False) as connection:
            steps = Steps(connection, now=self._clock.now(), beat=self._clock.monotonic(), boot_id=self._boot_id)
            yield steps
        # Before the disk has it: whoever wakes now can write nothing durable without making this durable too.
        if steps.rings:
            self._waking.ring()
        for job in steps.lost:
            self._tell_of_loss(job)
        if durable:
            self._database.make_durable()

    def _apply(self, job_id: str, event: Event) -> Job:
        with self._steps() as steps:
            return steps.apply(job_id, event)

    def _moved(self, step: Callable[[Steps], int]) -> int:
        with self._steps() as steps:
            return step(steps)

    def _worth_a_claim(self, job_types: Sequence[str] | None) -> bool:
        which, values = wanted_types(job_types)
        moment = {
            "now": self._clock.now().timestamp(),
            "beat": self._clock.monotonic(),
            "boot_id": self._boot_id,
        }
        with self._database.read() as connection:
            (worth,) = connection.execute(_LOOK.format(types=which), values | moment).fetchone()
        return bool(worth)

    def _has_foreign(self) -> bool:
        with self._database.read() as connection:
            return (
                connection.execute("SELECT 1 FROM jobs INDEXED BY jobs_foreign WHERE seq IS NULL").fetchone()
                is not None
            )

    def _seconds_to_next_due(self) -> float | None:
        with self._database.read() as connection:
            (moment,) = connection.execute(
                "SELECT min(coalesce(pause, delay), coalesce(delay, pause)) FROM ("
                "  SELECT (SELECT min(run_at) FROM jobs INDEXED BY jobs_pause"
                "          WHERE waits_for = 'time' AND head IS NOT NULL) AS pause,"
                "         (SELECT min(run_at) FROM jobs INDEXED BY jobs_delay"
                "          WHERE waits_for = 'time' AND head IS NULL) AS delay)"
            ).fetchone()
        return None if moment is None else max(0.0, moment - self._clock.now().timestamp())
