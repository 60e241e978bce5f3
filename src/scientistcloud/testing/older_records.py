"""What every database does for taking over what an older system wrote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from scientistcloud.errors import IncompatibleInstallation
from scientistcloud.ports import Store
from scientistcloud.records import Dataset, DatasetStatus, Found, JobStatus
from scientistcloud.testing.jobs import CONVERSION, HEART, LUNG, a_job, claimed

ADA = "ada@example.org"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


class OlderRecordsContract:
    """Inherit it, give the fixture `store`, and a way past the port."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        raise NotImplementedError

    def insert_older(self, store: Store, collection: str, **fields: Any) -> None:
        """Insert a record of `visstoredatas` or `jobs` with these fields alone, past all that we know of records.

        Where the collection has a fixed shape, fields that it cannot hold may be left out, and those that it
        demands may be empty.
        """
        raise NotImplementedError

    def _older_dataset(self, store: Store, **fields: Any) -> None:
        given = {"uuid": HEART, "user_id": ADA, "name": "frames", "sensor": "TIFF", "status": "completed"}
        self.insert_older(store, "visstoredatas", **(given | fields))

    def _only(self, found: Iterator[Found]) -> Found:
        (record,) = found
        return record

    def test_whose_it_is_may_stand_in_the_older_field(self, store: Store) -> None:
        self._older_dataset(store, status="conversion queued", size_bytes=5)

        (dataset,) = store.datasets.find(user=ADA, statuses=[DatasetStatus.CONVERSION_QUEUED])

        assert (dataset.uuid, dataset.user) == (HEART, ADA)
        assert store.datasets.find(user="eve@example.org") == []
        assert store.datasets.counts(user=ADA) == {DatasetStatus.CONVERSION_QUEUED: 1}
        assert store.datasets.stored_bytes(user=ADA) == 5

    def test_records_are_found_as_they_lie_there(self, store: Store) -> None:
        self._older_dataset(store)
        self.insert_older(
            store,
            "jobs",
            job_id="older",
            dataset_uuid=HEART,
            job_type=CONVERSION,
            status="retrying",
            parameters={"user_email": ADA, "input_path": "a"},
        )

        dataset, job = self._only(store.older.datasets()), self._only(store.older.jobs())

        assert (dataset.fields["uuid"], dataset.fields["user_id"], dataset.fields["status"]) == (
            HEART,
            ADA,
            "completed",
        )
        assert (job.fields["job_id"], job.fields["status"]) == ("older", "retrying")
        assert job.fields["parameters"] == {"user_email": ADA, "input_path": "a"}

    def test_reading_an_older_data_set_says_which_command_takes_it_over(self, store: Store) -> None:
        self._older_dataset(store, user=ADA, created_at=NOON.timestamp(), updated_at=NOON.timestamp())

        with pytest.raises(IncompatibleInstallation, match=f"{HEART}.*'completed'.*migrate-legacy"):
            store.targets.get(HEART)

    def test_ours_are_found_too_and_many_of_them(self, store: Store) -> None:
        ids = store.jobs.create([a_job(HEART if n % 2 else LUNG) for n in range(700)])

        assert [found.fields["job_id"] for found in store.older.jobs()] == ids

    def test_an_older_data_set_becomes_one_of_ours(self, store: Store) -> None:
        self._older_dataset(store)
        ours = Dataset(
            uuid=HEART,
            user=ADA,
            name="frames",
            sensor="TIFF",
            status=DatasetStatus.DONE,
            tags=("a", "b"),
            revision=1,
            closed_at=NOON,
            created_at=NOON,
            updated_at=NOON,
        )

        assert store.older.take_dataset(self._only(store.older.datasets()), ours, drop=["user_id"])

        assert store.datasets.get(HEART) == ours
        assert [each.uuid for each in store.datasets.find(user=ADA)] == [HEART]
        assert "user_id" not in self._only(store.older.datasets()).fields

    def test_what_changed_since_it_was_found_is_left_alone(self, store: Store) -> None:
        self._older_dataset(store)
        stale = self._only(store.older.datasets())
        ours = Dataset(
            uuid=HEART,
            user=ADA,
            name="frames",
            sensor="TIFF",
            status=DatasetStatus.DONE,
            created_at=NOON,
            updated_at=NOON,
        )
        assert store.older.take_dataset(stale, ours)

        assert not store.older.take_dataset(stale, replace(ours, name="another"))

        now = store.datasets.get(HEART)
        assert now is not None
        assert now.name == "frames"

    def test_an_older_job_is_cleaned_and_then_adopted(self, store: Store) -> None:
        self.insert_older(
            store,
            "jobs",
            job_id="older",
            dataset_uuid=LUNG,
            job_type=CONVERSION,
            status="retrying",
            parameters={"user_email": ADA, "n": 1},
            user_email=ADA,
        )
        stale = self._only(store.older.jobs())

        assert store.older.take_job(stale, status=JobStatus.PENDING, parameters={"n": 1}, drop=["user_email"])
        assert not store.older.take_job(stale, status=JobStatus.PENDING, parameters={"n": 2})

        assert "user_email" not in self._only(store.older.jobs()).fields
        store.jobs.adopt()
        job = claimed(store)
        assert (job.job_id, job.parameters) == ("older", {"n": 1})
