"""Who works: one row a running background service."""

from __future__ import annotations

import json

from scientistcloud.database.sqlite.connection import Database
from scientistcloud.database.sqlite.rows import column, moment
from scientistcloud.records import Worker

_NAMES = ("worker_id", "host", "slots", "job_types", "sensors", "version", "started_at", "last_seen")


class SqliteWorkers:
    """`ports.WorkerStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def announce(self, worker: Worker) -> None:
        with self._database.write(durable=False) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO workers VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [column(getattr(worker, name)) for name in _NAMES],
            )

    def leave(self, worker_id: str) -> None:
        with self._database.write(durable=False) as connection:
            connection.execute("DELETE FROM workers WHERE worker_id = ?", (worker_id,))

    def all(self) -> list[Worker]:
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT worker_id, host, slots, job_types, sensors, version, started_at, last_seen "
                "FROM workers ORDER BY worker_id"
            ).fetchall()
        return [
            Worker(
                worker_id=worker_id,
                host=host,
                slots=slots,
                job_types=tuple(json.loads(job_types)),
                sensors=tuple(json.loads(sensors)),
                version=version,
                started_at=moment(started_at),
                last_seen=moment(last_seen),
            )
            for worker_id, host, slots, job_types, sensors, version, started_at, last_seen in rows
        ]
