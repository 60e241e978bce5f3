"""Completions decided ahead of the writers' lock, from what the worker holds.

A job that runs belongs to its worker, so hardly anybody changes it between claim and end. What becomes of it
is worked out before, while others write; under the lock one statement writes it, if the job is still as the worker
knows it. Otherwise it is read and decided anew there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from scientistcloud.database.sqlite.rows import changed_columns, column
from scientistcloud.errors import LeaseLost
from scientistcloud.jobs import lifecycle
from scientistcloud.jobs.lifecycle import Changes, Completed
from scientistcloud.records import Job

# What can befall a job that runs shows in these: it is given away, its end is asked for, it has a heartbeat.
_AS_KNOWN = ("token", "status", "cancel_requested", "heartbeat_at")


@dataclass(frozen=True, slots=True)
class Decided:
    """What is to be written of one job, if it is still `before`."""

    before: Job
    changed: Changes
    statement: str
    values: Sequence[str | int | float | None]

    def write(self, connection: sqlite3.Connection) -> bool:
        """Whether it was."""
        return connection.execute(self.statement, self.values).rowcount == 1


def decide(ends: Sequence[tuple[Job, Completed]], now: datetime) -> Mapping[str, Decided]:
    """What to write of those among `ends` that their worker holds; the others are left to the lock."""
    decided: dict[str, Decided] = {}
    for job, event in ends:
        try:
            changed = lifecycle.changes(job, event, now)
        except LeaseLost:
            continue
        if changed:
            values = changed_columns(job, changed)
            known = [column(getattr(job, name)) for name in _AS_KNOWN]
            decided[job.job_id] = Decided(
                job, changed, _update_of(tuple(values)), [*values.values(), job.job_id, *known]
            )
    return decided


@cache
def _update_of(names: tuple[str, ...]) -> str:
    written = ", ".join(f"{name} = ?" for name in names)
    as_known = " AND ".join(f"{name} IS ?" for name in _AS_KNOWN)
    return f"UPDATE jobs SET {written} WHERE job_id = ? AND {as_known}"  # noqa: S608  # constants
