"""The contracts of the other stores, on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scientistcloud import open_store
from scientistcloud.ports import Store
from scientistcloud.testing.dataset_store import DatasetStoreContract, TargetStoreContract
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
