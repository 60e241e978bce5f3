"""Completions decided ahead of the writers' lock.

A job that runs belongs to its worker, so hardly anybody changes it between a look at it and the lock. What becomes
of it is worked out before, while others write; under the lock one statement writes it, if the job is still as seen.
Otherwise it is decided anew there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from scientistcloud.database.sqlite.rows import CHANGING, JOB_COLUMNS, changes, column, job_of
from scientistcloud.errors import LeaseLost
from scientistcloud.jobs import lifecycle
from scientistcloud.jobs.lifecycle import Completed
from scientistcloud.records import Job

# What can befall a job that runs shows in these: it is given away, its end is asked for, it has a heartbeat.
_AS_SEEN = ("token", "status", "cancel_requested", "heartbeat_at")


@dataclass(frozen=True, slots=True)
class Decided:
    """What is to be written of one job, if it is still `before`."""

    before: Job
    after: Job
    statement: str
    values: Sequence[str | int | float | None]

    def write(self, connection: sqlite3.Connection) -> bool:
        """Whether it was."""
        return connection.execute(self.statement, self.values).rowcount == 1


def decide(
    connection: sqlite3.Connection, ends: Sequence[tuple[str, Completed]], now: datetime
) -> Mapping[str, Decided]:
    """What to write of those among `ends` that their worker holds; the others are left to the lock."""
    decided: dict[str, Decided] = {}
    for job_id, event in ends:
        row = connection.execute(
            f"SELECT {JOB_COLUMNS} FROM jobs WHERE job_id = ? AND seq IS NOT NULL",  # noqa: S608  # constants
            (job_id,),
        ).fetchone()
        if row is None:
            continue
        before = job_of(row)
        try:
            after = lifecycle.after(before, event, now)
        except LeaseLost:
            continue
        if after is not before:
            values = changes(before, after, CHANGING)
            seen = [column(getattr(before, name)) for name in _AS_SEEN]
            decided[job_id] = Decided(before, after, _update_of(tuple(values)), [*values.values(), job_id, *seen])
    return decided


@cache
def _update_of(names: tuple[str, ...]) -> str:
    written = ", ".join(f"{name} = ?" for name in names)
    as_seen = " AND ".join(f"{name} IS ?" for name in _AS_SEEN)
    return f"UPDATE jobs SET {written} WHERE job_id = ? AND {as_seen}"  # noqa: S608  # constants
