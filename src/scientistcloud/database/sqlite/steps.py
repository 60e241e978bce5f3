"""The steps that a transaction on the queue is made of. What becomes of a job is decided by `jobs.lifecycle`."""

# ruff: noqa: S608  # the names of columns are constants of `rows`

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from operator import itemgetter

from scientistcloud.database.sqlite.completions import Decided
from scientistcloud.database.sqlite.rows import JOB_COLUMNS, JOB_NAMES, Row, changed_columns, job_of, row_of
from scientistcloud.errors import IdempotencyConflict, LeaseLost, NotFound, QueueFull
from scientistcloud.jobs import lifecycle
from scientistcloud.jobs.adoption import adopted
from scientistcloud.jobs.lifecycle import (
    CANARY,
    Beat,
    Changes,
    Claimed,
    Completed,
    Due,
    Event,
    Lost,
    Promoted,
    Retried,
)
from scientistcloud.jobs.retry import LOST_PAUSE_SECONDS, pause_seconds
from scientistcloud.records import Job, NewJob, WaitsFor

STEP = 100
"""How many jobs of a kind one transaction moves at most, so that a million due at once hold nobody up."""

# Running jobs whose lease ran out; what was promised before the machine started again is void. Three ranges of one
# index, because with OR all of it would be read.
_RUNNING = "SELECT n FROM jobs INDEXED BY jobs_running WHERE status = 'running' AND"
LOST = f"""
    {_RUNNING} boot_id = :boot_id AND beat + lease_seconds < :beat
    UNION ALL {_RUNNING} boot_id < :boot_id UNION ALL {_RUNNING} boot_id > :boot_id
"""
# A job is lost, due, or another client's.
HOUSE_NEEDS_KEEPING = f"""
    EXISTS ({LOST})
    OR EXISTS (
        SELECT 1 FROM jobs INDEXED BY jobs_pause WHERE waits_for = 'time' AND head IS NOT NULL AND run_at <= :now
    ) OR EXISTS (
        SELECT 1 FROM jobs INDEXED BY jobs_delay WHERE waits_for = 'time' AND head IS NULL AND run_at <= :now
    ) OR EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_foreign WHERE seq IS NULL)
"""
TYPES_OF_ALL = f"NOT paused AND job_type <> '{CANARY}'"


def wanted_types(job_types: Sequence[str] | None) -> tuple[str, dict[str, str]]:
    """The condition for the types that a claim looks at, and its values."""
    if job_types is None:
        return TYPES_OF_ALL, {}
    values = {f"type{number}": job_type for number, job_type in enumerate(job_types)}
    return f"NOT paused AND job_type IN ({', '.join(f':{name}' for name in values)})", values


_INSERT = f"INSERT INTO jobs ({JOB_COLUMNS}) VALUES ({', '.join('?' * len(JOB_NAMES))})"
_RANK = 1 + JOB_NAMES.index("rank")


class Steps:
    """One write transaction on the queue, at one moment.

    Parameters
    ----------
    beat
        The monotonic clock, in seconds since the boot `boot_id`.
    """

    def __init__(self, connection: sqlite3.Connection, *, now: datetime, beat: float, boot_id: str) -> None:
        self._connection = connection
        self._now = now
        self._beat = beat
        self._boot_id = boot_id
        self._worth_a_look: set[str] = set()
        self._left_behind = False
        #: The jobs that were taken back because their lease ran out, as they were.
        self.lost: list[Job] = []

    @property
    def rings(self) -> bool:
        """Whether a sleeping worker has a reason to look once this is committed."""
        return self._left_behind or bool(self._worth_a_look)

    # -- one job ---------------------------------------------------------------------------------

    def insert_all(self, jobs: Sequence[NewJob], *, max_pending: int | None) -> list[str]:
        """Add `jobs` in order; all or, where one cannot be added, none."""
        types = {(new.job_type,) for new in jobs}
        self._connection.executemany("INSERT OR IGNORE INTO types (job_type) VALUES (?)", types)
        if len(jobs) == 1:
            return [self._insert(jobs[0], max_pending=max_pending)]
        self._connection.execute("SAVEPOINT jobs")
        try:
            job_ids = [self._insert(new, max_pending=max_pending) for new in jobs]
        except BaseException:
            self._connection.execute("ROLLBACK TO jobs")
            raise
        finally:
            self._connection.execute("RELEASE jobs")
        return job_ids

    def _insert(self, new: NewJob, *, max_pending: int | None) -> str:
        """Add a job to its line; the id of the earlier one for a known idempotency key."""
        if new.idempotency_key is not None and (known := self._known(new)) is not None:
            return known
        if max_pending is not None and self._unfinished(new.dataset_uuid) >= max_pending:
            raise QueueFull(
                f"data set {new.dataset_uuid} has {max_pending} unfinished jobs, and no more are allowed; wait for "
                "one to end, or raise MAX_PENDING_PER_DATASET"
            )
        seq = self._next_seq(new.dataset_uuid)
        line_free = seq == 1 or self._line_free(new.dataset_uuid)
        job = lifecycle.created(new, seq=seq, line_free=line_free, now=self._now)
        self._connection.execute(_INSERT, row_of(job))
        self._note(job.job_id, job.waits_for)
        return job.job_id

    def apply(self, job_id: str, event: Event) -> Job:
        """Let `event` happen to the job; a line whose head ended moves on. Raises `NotFound`."""
        before = self._job(job_id)
        changed = lifecycle.changes(before, event, self._now)
        if not changed:
            return before
        self._save(before, changed)
        return replace(before, **changed)

    def complete(self, ends: Sequence[tuple[Job, Completed]], decided: Mapping[str, Decided]) -> list[LeaseLost]:
        """Let each job end, if it is its worker's; what is to be said of the others.

        `decided`: what was worked out before the lock, where it still holds.
        """
        lost = []
        for job, event in ends:
            ready = decided.get(job.job_id)
            if ready is not None and ready.write(self._connection):
                self._written(ready.before, ready.changed)
                continue
            try:
                self.apply(job.job_id, event)
            except LeaseLost as refused:
                lost.append(refused)
        return lost

    def retry(self, job_id: str) -> Job:
        """Put the job last in its line again."""
        before = self._job(job_id)
        # Asked first, because a place that is drawn for nothing would be the data set's newest.
        lifecycle.changes(before, Retried(before.seq, line_free=False), self._now)
        event = Retried(self._next_seq(before.dataset_uuid), line_free=self._line_free(before.dataset_uuid))
        return self.apply(job_id, event)

    # -- claiming --------------------------------------------------------------------------------

    def claim(
        self, worker_id: str, *, limit: int, job_types: Sequence[str] | None, lease_seconds: float
    ) -> list[tuple[Job, Changes]]:
        """Lease up to `limit` due heads, lowest `rank` first, after the housekeeping of the queue.

        Each with what the claim makes of it, so that its record is put together once the lock is free.
        """
        self.keep_house()
        ready = self._ready(limit + 1, job_types)
        claimed = []
        for row in ready[:limit]:
            head = job_of(row[1:])
            event = Claimed(worker_id, self._next_token(head.dataset_uuid), lease_seconds)
            claimed.append((head, self._lease(head, event)))
        # Whoever claims wakes the next for what is left.
        self._left_behind = len(ready) > limit
        return claimed

    def beat(self, job_id: str, event: Beat) -> Job:
        """Renew the lease."""
        before = self._job(job_id)
        return replace(before, **self._lease(before, event))

    def keep_house(self) -> int:
        """Take back lost jobs, let due ones join, adopt foreign ones: at most 100 of each; how many."""
        (needed,) = self._connection.execute(
            f"SELECT {HOUSE_NEEDS_KEEPING}",
            {"now": self._now.timestamp(), "beat": self._beat, "boot_id": self._boot_id},
        ).fetchone()
        return self.reap() + self._join_due() + self.adopt() if needed else 0

    def reap(self, *, dead: Sequence[str] = ()) -> int:
        """Take back at most 100 jobs whose lease ran out, or whose worker is in `dead`."""
        lost = f"{_RUNNING} worker_id IN (SELECT value FROM json_each(:dead))" if dead else LOST
        jobs = self._jobs(
            f"WHERE n IN ({lost} LIMIT {STEP})",
            boot_id=self._boot_id,
            beat=self._beat,
            dead=json.dumps(list(dead)),
        )
        for before in jobs:
            (token,) = self._connection.execute(
                "SELECT token FROM lanes WHERE dataset_uuid = ?", (before.dataset_uuid,)
            ).fetchone()
            pause = pause_seconds(
                before.attempt,
                chance=random.random(),  # noqa: S311  # jitter, not a secret
                first_seconds=LOST_PAUSE_SECONDS,
            )
            changed = lifecycle.changes(before, Lost(pause, next_token=token + 1), self._now)
            if "token" in changed:
                self._connection.execute(
                    "UPDATE lanes SET token = ? WHERE dataset_uuid = ?", (changed["token"], before.dataset_uuid)
                )
            self._save(before, changed)
            self.lost.append(before)
        return len(jobs)

    def adopt(self) -> int:
        """Make at most 100 rows that other clients inserted into jobs of ours."""
        rows = self._connection.execute(
            "SELECT job_id, dataset_uuid, job_type, status, parameters FROM jobs INDEXED BY jobs_foreign "
            "WHERE seq IS NULL LIMIT ?",
            (STEP,),
        ).fetchall()
        for job_id, dataset_uuid, job_type, status, parameters in rows:
            self._connection.execute("INSERT OR IGNORE INTO types (job_type) VALUES (?)", (job_type,))
            job = adopted(
                job_id=job_id,
                dataset_uuid=dataset_uuid,
                job_type=job_type,
                status=status,
                parameters=parameters,
                seq=self._next_seq(dataset_uuid),
                line_free=self._line_free(dataset_uuid),
                now=self._now,
            )
            self._connection.execute(_update_of(JOB_NAMES), [*row_of(job), job_id])
            self._note(job_id, job.waits_for)
        return len(rows)

    def promote(self, dataset_uuid: str) -> None:
        """Give the line a head, if it has none and a job waits for its turn."""
        if self._line_free(dataset_uuid):
            self._promote_next(dataset_uuid)

    # -- details ---------------------------------------------------------------------------------

    def _promote_next(self, dataset_uuid: str) -> None:
        for before in self._jobs(
            "INDEXED BY jobs_turn WHERE dataset_uuid = :uuid AND waits_for = 'turn' ORDER BY seq LIMIT 1",
            uuid=dataset_uuid,
        ):
            self._save(before, lifecycle.changes(before, Promoted(), self._now))

    def _known(self, new: NewJob) -> str | None:
        row = self._connection.execute(
            "SELECT job_id, dataset_uuid, job_type FROM jobs WHERE idempotency_key = ?", (new.idempotency_key,)
        ).fetchone()
        if row is None:
            return None
        job_id, dataset_uuid, job_type = row
        if (dataset_uuid, job_type) != (new.dataset_uuid, new.job_type):
            raise IdempotencyConflict(
                f"the idempotency key {new.idempotency_key!r} stands for job {job_id} ({job_type} of data set "
                f"{dataset_uuid}); use another key for another job"
            )
        return str(job_id)

    def _unfinished(self, dataset_uuid: str) -> int:
        (number,) = self._connection.execute(
            "SELECT (SELECT count(*) FROM jobs INDEXED BY jobs_turn"
            "    WHERE dataset_uuid = :uuid AND waits_for = 'turn')"
            " + (SELECT count(*) FROM jobs WHERE head = :uuid)"
            " + (SELECT count(*) FROM jobs INDEXED BY jobs_delay_of"
            "    WHERE dataset_uuid = :uuid AND waits_for = 'time' AND head IS NULL)",
            {"uuid": dataset_uuid},
        ).fetchone()
        return int(number)

    def _next_seq(self, dataset_uuid: str) -> int:
        rows = self._connection.execute(
            "INSERT INTO lanes (dataset_uuid, seq) VALUES (?, 1) "
            "ON CONFLICT (dataset_uuid) DO UPDATE SET seq = seq + 1 RETURNING seq",
            (dataset_uuid,),
        ).fetchall()
        return int(rows[0][0])

    def _next_token(self, dataset_uuid: str) -> int:
        rows = self._connection.execute(
            "UPDATE lanes SET token = token + 1 WHERE dataset_uuid = ? RETURNING token", (dataset_uuid,)
        ).fetchall()
        return int(rows[0][0])

    def _line_free(self, dataset_uuid: str) -> bool:
        return self._connection.execute("SELECT 1 FROM jobs WHERE head = ?", (dataset_uuid,)).fetchone() is None

    def _ready(self, limit: int, job_types: Sequence[str] | None) -> list[Row]:
        which, values = wanted_types(job_types)
        types = self._connection.execute(f"SELECT job_type FROM types WHERE {which}", values).fetchall()
        found: list[Row] = []
        for (job_type,) in types:
            found += self._connection.execute(
                f"SELECT n, {JOB_COLUMNS} FROM jobs INDEXED BY jobs_ready "
                "WHERE waits_for = 'nothing' AND job_type = ? ORDER BY rank LIMIT ?",
                (job_type, limit),
            ).fetchall()
        # Created in one commit, they have one rank; then the order of creation decides.
        return sorted(found, key=itemgetter(_RANK, 0))[:limit]

    def _join_due(self) -> int:
        moved = 0
        for kind, index in (("IS NOT NULL", "jobs_pause"), ("IS NULL", "jobs_delay")):
            due = self._jobs(
                f"INDEXED BY {index} WHERE waits_for = 'time' AND head {kind} AND run_at <= :now "
                f"ORDER BY run_at LIMIT {STEP}",
                now=self._now.timestamp(),
            )
            for before in due:
                free = before.head is not None or self._line_free(before.dataset_uuid)
                self._save(before, lifecycle.changes(before, Due(line_free=free), self._now))
            moved += len(due)
        return moved

    def _job(self, job_id: str) -> Job:
        for job in self._jobs("WHERE job_id = :job_id AND seq IS NOT NULL", job_id=job_id):
            return job
        raise NotFound(f"there is no job {job_id}; `scientistcloud jobs list` shows them")

    def _jobs(self, which: str, **values: object) -> list[Job]:
        rows = self._connection.execute(f"SELECT {JOB_COLUMNS} FROM jobs {which}", values).fetchall()
        return [job_of(row) for row in rows]

    def _lease(self, before: Job, event: Claimed | Beat) -> Changes:
        changed = lifecycle.changes(before, event, self._now)
        self._save(before, changed, beat=self._beat, boot_id=self._boot_id)
        return changed

    def _save(self, before: Job, changed: Changes, **more: object) -> None:
        """Write what becomes of a job; a line whose head ended moves on."""
        values = changed_columns(before, changed) | more
        self._connection.execute(_update_of(tuple(values)), [*values.values(), before.job_id])
        self._written(before, changed)

    def _written(self, before: Job, changed: Changes) -> None:
        self._note(before.job_id, changed.get("waits_for", before.waits_for))
        if before.head is not None and changed.get("head", before.head) is None:
            self._promote_next(before.dataset_uuid)

    def _note(self, job_id: str, waits_for: WaitsFor | None) -> None:
        # Pauses too: a sleeper has to learn of an earlier due time.
        if waits_for in (WaitsFor.NOTHING, WaitsFor.TIME):
            self._worth_a_look.add(job_id)
        else:
            self._worth_a_look.discard(job_id)


@cache
def _update_of(names: tuple[str, ...]) -> str:
    return f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in names)} WHERE job_id = ?"
