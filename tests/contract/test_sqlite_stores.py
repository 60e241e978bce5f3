"""The contracts of the other stores, on SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from scientistcloud import open_store
from scientistcloud.ports import Store
from scientistcloud.testing.dataset_store import DatasetStoreContract, TargetStoreContract
from scientistcloud.testing.older_records import OlderRecordsContract
from scientistcloud.testing.site_store import SiteStoreContract


class SqliteFixtures:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = open_store(f"sqlite:///{tmp_path}/scientistcloud.db")
        yield store
        store.close()


class TestSqliteDatasetStore(SqliteFixtures, DatasetStoreContract):
    pass


class TestSqliteTargetStore(SqliteFixtures, TargetStoreContract):
    pass


class TestSqliteSiteStore(SqliteFixtures, SiteStoreContract):
    pass


class TestSqliteOlderRecords(SqliteFixtures, OlderRecordsContract):
    def insert_older(self, store: Store, collection: str, **fields: Any) -> None:
        if collection == "visstoredatas":
            fields = {"user": "", "created_at": 1.0, "updated_at": 1.0} | fields
        with closing(sqlite3.connect(store.url.removeprefix("sqlite:///"))) as connection, connection:
            known = {row[1] for row in connection.execute(f"PRAGMA table_info({collection})")}
            given = {
                name: json.dumps(value) if isinstance(value, dict) else value
                for name, value in fields.items()
                if name in known
            }
            connection.execute(
                f"INSERT INTO {collection} ({', '.join(given)}) VALUES ({', '.join('?' * len(given))})",
                tuple(given.values()),
            )
