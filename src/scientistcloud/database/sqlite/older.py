"""The two tables as they lie there, for taking over what an older system wrote."""

# ruff: noqa: S608  # the names of columns are constants of `rows`, or the table's own

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scientistcloud.database.sqlite.connection import Database
from scientistcloud.database.sqlite.rows import DATASET_NAMES, column, moment
from scientistcloud.records import Dataset, Found, JobStatus, Json

_PAGE = 500
_JSON = frozenset({"parameters", "progress", "result", "error", "history", "forms", "tags", "wanted"})
_TIMES = frozenset(
    {"run_at", "heartbeat_at", "created_at", "updated_at", "started_at", "finished_at", "closed_at", "deleted_at"}
)


class SqliteOlderRecords:
    """`ports.OlderRecords`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def datasets(self) -> Iterator[Found]:
        return self._all("visstoredatas")

    def take_dataset(self, found: Found, dataset: Dataset, *, drop: Sequence[str] = ()) -> bool:
        values = {name: column(getattr(dataset, name)) for name in DATASET_NAMES}
        return self._take("visstoredatas", found, values | dict.fromkeys(drop))

    def jobs(self) -> Iterator[Found]:
        return self._all("jobs")

    def take_job(self, found: Found, *, status: JobStatus, parameters: Json, drop: Sequence[str] = ()) -> bool:
        values = {"status": column(status), "parameters": column(parameters)}
        return self._take("jobs", found, values | dict.fromkeys(drop))

    def _all(self, table: str) -> Iterator[Found]:
        last = 0
        while True:
            with self._database.read() as connection:
                page = _records(connection, f"SELECT * FROM {table} WHERE n > ? ORDER BY n LIMIT ?", (last, _PAGE))
            if not page:
                return
            yield from page
            last = int(str(page[-1].place))

    def _take(self, table: str, found: Found, values: Mapping[str, Any]) -> bool:
        with self._database.write() as connection:
            if _records(connection, f"SELECT * FROM {table} WHERE n = ?", (found.place,)) != [found]:
                return False
            known = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            assigned = [name for name in values if name in known]
            connection.execute(
                f"UPDATE {table} SET {', '.join(f'{name} = :{name}' for name in assigned)} WHERE n = :n",
                {name: values[name] for name in assigned} | {"n": found.place},
            )
        return True


def _records(connection: sqlite3.Connection, statement: str, values: Sequence[object]) -> list[Found]:
    cursor = connection.execute(statement, values)
    names = [each[0] for each in cursor.description]
    found = []
    for row in cursor:
        fields = {name: _value(name, value) for name, value in zip(names, row, strict=True) if value is not None}
        found.append(Found(place=fields.pop("n"), fields=fields))
    return found


def _value(name: str, value: object) -> object:
    if name in _JSON and isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return moment(value) if name in _TIMES and isinstance(value, int | float) else value
