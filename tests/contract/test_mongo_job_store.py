"""The contract of job stores, on a server that speaks MongoDB's protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pymongo
import pytest

from scientistcloud import open_store
from scientistcloud.ports import Store
from scientistcloud.records import Job
from scientistcloud.testing.job_store import JobStoreContract


class TestMongoJobStore(JobStoreContract):
    @pytest.fixture
    def store(self, mongodb_url: str) -> Iterator[Store]:
        store = open_store(mongodb_url)
        yield store
        store.close()

    def age(self, store: Store, job: Job, seconds: float) -> None:
        with pymongo.MongoClient[dict[str, Any]](store.url, tz_aware=True) as client:
            jobs = client.get_default_database().jobs
            document = jobs.find_one({"job_id": job.job_id})
            assert document is not None
            document["heartbeat_at"] -= timedelta(seconds=seconds)
            jobs.replace_one({"job_id": job.job_id}, document)

    def insert_five_fields(self, store: Store, **five: str) -> None:
        document: dict[str, Any] = dict(five)
        with suppress(ValueError):  # a text that is no JSON stays one
            document["parameters"] = json.loads(five["parameters"])
        with pymongo.MongoClient[dict[str, Any]](store.url) as client:
            client.get_default_database().jobs.insert_one(document)
