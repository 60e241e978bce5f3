"""What is seen of the queue without changing it: each method is one look at one moment."""

# ruff: noqa: S608  # the names of columns are constants of `rows`

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from scientistcloud.database.sqlite.connection import Database
from scientistcloud.database.sqlite.rows import JOB_COLUMNS, Row, job_of
from scientistcloud.datasets.lifecycle import DELETION
from scientistcloud.errors import NotFound
from scientistcloud.jobs.handling import queue_stats
from scientistcloud.jobs.lifecycle import PRIORITY_STEP_SECONDS
from scientistcloud.ports import Clock
from scientistcloud.records import Job, JobStatus, Line, QueueStats, TypeStats, WaitsFor

_ERROR_TYPE = "json_extract(error, '$.type')"


class JobLooks:
    """The half of `ports.JobStore` that only reads."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def get(self, job_id: str) -> Job | None:
        found = self._read("job_id = :job_id AND seq IS NOT NULL", job_id=job_id)
        return found[0] if found else None

    def find(
        self,
        *,
        dataset_uuid: str | None = None,
        status: JobStatus | None = None,
        job_type: str | None = None,
        error: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Job]:
        order = "n" if dataset_uuid is None else "seq"
        conditions = ["seq IS NOT NULL"]
        values: dict[str, object] = {"limit": limit}
        asked = {"dataset_uuid": dataset_uuid, "status": status and status.value, "job_type": job_type}
        if status is JobStatus.FAILED:
            conditions.append("status = 'failed'")  # in so many words, for the index of those that failed
        if error is not None:
            conditions.append(f"instr(folded({_ERROR_TYPE} || ' ' || json_extract(error, '$.message')), :part)")
            values["part"] = error.casefold()
        for name, value in asked.items():
            if value is not None:
                conditions.append(f"{name} = :{name}")
        with self._database.read() as connection:
            if after is not None:
                place = connection.execute(f"SELECT {order} FROM jobs WHERE job_id = ?", (after,)).fetchone()
                if place is None:
                    raise NotFound(f"there is no job {after} to go on after; list from the beginning")
                conditions.append(f"{order} > :place")
                values["place"] = place[0]
            rows = connection.execute(
                f"SELECT {JOB_COLUMNS} FROM jobs WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT :limit",
                values | asked,
            ).fetchall()
        return [job_of(row) for row in rows]

    def line(self, dataset_uuid: str) -> Line:
        values = {"uuid": dataset_uuid, "deletion": DELETION}
        with self._database.snapshot() as connection:
            head: Row | None = connection.execute(
                f"SELECT {JOB_COLUMNS} FROM jobs WHERE head = :uuid AND job_type <> :deletion", values
            ).fetchone()
            last: Row | None = connection.execute(
                f"SELECT {JOB_COLUMNS} FROM jobs INDEXED BY jobs_ended "
                "WHERE dataset_uuid = :uuid AND finished_at IS NOT NULL AND job_type <> :deletion "
                "ORDER BY finished_at DESC, seq DESC LIMIT 1",
                values,
            ).fetchone()
        first = None if head is None else job_of(head)
        runs = first is not None and first.status is JobStatus.RUNNING
        return Line(
            running=first if runs else None,
            head=None if runs else first,
            last=None if last is None else job_of(last),
        )

    def current(self, dataset_uuids: Sequence[str]) -> Mapping[str, Job]:
        uuids = json.dumps(list(dataset_uuids))
        with self._database.snapshot() as connection:
            newest = connection.execute(
                f"SELECT {_of_jobs(JOB_COLUMNS)} FROM json_each(?) AS asked "
                "JOIN lanes ON lanes.dataset_uuid = asked.value "
                "JOIN jobs ON jobs.dataset_uuid = lanes.dataset_uuid AND jobs.seq = lanes.seq",
                (uuids,),
            ).fetchall()
            heads = connection.execute(
                f"SELECT {JOB_COLUMNS} FROM jobs WHERE head IN (SELECT value FROM json_each(?))", (uuids,)
            ).fetchall()
        return {job.dataset_uuid: job for job in map(job_of, (*newest, *heads))}

    def changed_since(self, moment: datetime) -> Sequence[str]:
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT DISTINCT dataset_uuid FROM jobs INDEXED BY jobs_updated WHERE updated_at >= ?",
                (moment.timestamp(),),
            ).fetchall()
        return [dataset_uuid for (dataset_uuid,) in rows]

    def claimable(self) -> Sequence[str]:
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT job_id FROM jobs INDEXED BY jobs_ready "
                "WHERE waits_for = 'nothing' AND job_type IN (SELECT job_type FROM types) "
                "UNION ALL SELECT job_id FROM jobs INDEXED BY jobs_pause "
                "WHERE waits_for = 'time' AND head IS NOT NULL AND run_at <= ?",
                (self._clock.now().timestamp(),),
            ).fetchall()
        return [job_id for (job_id,) in rows]

    def stats(self) -> QueueStats:
        now = self._clock.now().timestamp()
        with self._database.snapshot() as connection:
            ended = connection.execute(
                "SELECT status, count(*) FROM jobs INDEXED BY jobs_ended "
                "WHERE finished_at IS NOT NULL GROUP BY status"
            ).fetchall()
            types = connection.execute("SELECT job_type, paused FROM types ORDER BY job_type").fetchall()
            pending = connection.execute(
                "SELECT job_type, waits_for, count(*), min(rank - ? * (priority - 1)) "
                "FROM jobs INDEXED BY jobs_ready WHERE waits_for IS NOT NULL GROUP BY 1, 2",
                (PRIORITY_STEP_SECONDS,),
            ).fetchall()
            running = connection.execute(
                "SELECT job_type, count(*) FROM jobs INDEXED BY jobs_running WHERE status = 'running' GROUP BY 1"
            ).fetchall()
            failed = connection.execute(
                f"SELECT job_type, coalesce({_ERROR_TYPE}, ''), count(*) FROM jobs INDEXED BY jobs_failed "
                "WHERE status = 'failed' GROUP BY 1, 2"
            ).fetchall()
        figures = {job_type: TypeStats(paused=bool(paused)) for job_type, paused in types}
        for job_type, waits_for, number, since in pending:
            before = figures.get(job_type, TypeStats())
            oldest = max(0.0, now - since) if waits_for == WaitsFor.NOTHING else before.oldest_claimable_seconds
            figures[job_type] = replace(
                before, waiting={**before.waiting, waits_for: number}, oldest_claimable_seconds=oldest
            )
        for job_type, number in running:
            figures[job_type] = replace(figures.get(job_type, TypeStats()), running=number)
        for job_type, error, number in failed:
            before = figures.get(job_type, TypeStats())
            figures[job_type] = replace(before, failed={**before.failed, error: number})
        return queue_stats(dict(ended), figures)

    def paused(self) -> Sequence[str]:
        with self._database.read() as connection:
            rows = connection.execute("SELECT job_type FROM types WHERE paused ORDER BY job_type").fetchall()
        return [job_type for (job_type,) in rows]

    def _read(self, condition: str, **values: object) -> list[Job]:
        with self._database.read() as connection:
            rows = connection.execute(f"SELECT {JOB_COLUMNS} FROM jobs WHERE {condition}", values).fetchall()
        return [job_of(row) for row in rows]


def _of_jobs(columns: str) -> str:
    return ", ".join(f"jobs.{name}" for name in columns.split(", "))
