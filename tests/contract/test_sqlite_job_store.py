"""The contract of job stores, on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from scientistcloud import open_store
from scientistcloud.ports import Store
from scientistcloud.records import Job
from scientistcloud.testing.job_store import JobStoreContract


class TestSqliteJobStore(JobStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = open_store(f"sqlite:///{tmp_path}/scientistcloud.db")
        yield store
        store.close()

    def age(self, store: Store, job: Job, seconds: float) -> None:
        self._send(store, "UPDATE jobs SET beat = beat - ? WHERE job_id = ?", (seconds, job.job_id))

    def insert_five_fields(self, store: Store, **five: str) -> None:
        names = ", ".join(five)
        self._send(store, f"INSERT INTO jobs ({names}) VALUES (?, ?, ?, ?, ?)", tuple(five.values()))

    def _send(self, store: Store, statement: str, values: tuple[object, ...]) -> None:
        with closing(sqlite3.connect(store.url.removeprefix("sqlite:///"))) as connection, connection:
            connection.execute(statement, values)
