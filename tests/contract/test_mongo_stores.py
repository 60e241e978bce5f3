"""The contracts of the other stores, on a server that speaks MongoDB's protocol."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pymongo
import pytest

from scientistcloud import open_store
from scientistcloud.ports import Store
from scientistcloud.testing.dataset_store import DatasetStoreContract, TargetStoreContract
from scientistcloud.testing.older_records import OlderRecordsContract
from scientistcloud.testing.site_store import SiteStoreContract


class MongoFixtures:
    @pytest.fixture
    def store(self, mongodb_url: str) -> Iterator[Store]:
        store = open_store(mongodb_url)
        yield store
        store.close()


class TestMongoDatasetStore(MongoFixtures, DatasetStoreContract):
    time_step = timedelta(milliseconds=1)


class TestMongoTargetStore(MongoFixtures, TargetStoreContract):
    pass


class TestMongoSiteStore(MongoFixtures, SiteStoreContract):
    pass


class TestMongoOlderRecords(MongoFixtures, OlderRecordsContract):
    def insert_older(self, store: Store, collection: str, **fields: Any) -> None:
        with pymongo.MongoClient[dict[str, Any]](store.url) as client:
            client.get_default_database()[collection].insert_one(fields)
