"""Figures that only grow."""

from __future__ import annotations

import json
from collections.abc import Sequence

from scientistcloud.database.sqlite.connection import Database
from scientistcloud.database.sqlite.rows import compact
from scientistcloud.records import Count


class SqliteCounters:
    """`ports.CounterStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, counts: Sequence[Count]) -> None:
        with self._database.write(durable=False) as connection:
            connection.executemany(
                "INSERT INTO counters VALUES (?, ?, ?) "
                "ON CONFLICT (name, labels) DO UPDATE SET value = value + excluded.value",
                [(count.name, compact(count.labels), count.value) for count in counts],
            )

    def all(self) -> list[Count]:
        with self._database.read() as connection:
            rows = connection.execute("SELECT name, labels, value FROM counters ORDER BY name, labels").fetchall()
        return [
            Count(name=name, labels=tuple((key, label) for key, label in json.loads(labels)), value=value)
            for name, labels, value in rows
        ]
