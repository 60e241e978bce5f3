"""What the background service asks of the database: never anything about a person."""

from __future__ import annotations

import re
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scientistcloud import BackgroundService, JobQueueManager, open_store
from scientistcloud.ports import Store
from scientistcloud.records import ConversionTarget, Dataset, DatasetStatus, Wanted

ABOUT_PEOPLE = re.compile(r"\b(user|user_id|user_email|owner|email|description|tags)\b|@|SELECT \*", re.IGNORECASE)


WRITES_JOB = re.compile(r"(UPDATE|findAndModify) jobs")


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = open_store(database_url)
    yield store
    store.close()


def a_dataset(store: Store, root: Path, **parameters: object) -> str:
    """A data set that waits for the job that care creates."""
    now = datetime.now(UTC)
    dataset = str(uuid.uuid4())
    store.datasets.add(
        Dataset(
            uuid=dataset,
            user="ada@example.org",
            name="heart",
            sensor="auto",
            status=DatasetStatus.CONVERSION_QUEUED,
            created_at=now,
            updated_at=now,
            closed_at=now,
            wanted=Wanted(
                job_type="dataset_conversion", idempotency_key=f"convert:{dataset}", parameters=parameters
            ),
        )
    )
    (root / "datasets" / dataset / "source").mkdir(parents=True)
    return dataset


def statements_of_a_service(store: Store, root: Path, datasets: list[str]) -> list[str]:
    """All that a service asks of the database until it has worked on `datasets`."""
    service = BackgroundService(store, data_dir=root, tasks=["service_tasks:Trial"])
    with store.trace() as statements:
        thread = threading.Thread(target=service.run)
        thread.start()
        try:
            until = time.monotonic() + 30
            while not all(_has_ended(store.targets.get(dataset)) for dataset in datasets):
                assert time.monotonic() < until, [store.targets.get(dataset) for dataset in datasets]
                time.sleep(0.01)
        finally:
            service.stop()
            thread.join()
    return statements


def _has_ended(target: ConversionTarget | None) -> bool:
    return target is not None and target.status in (DatasetStatus.DONE, DatasetStatus.CONVERSION_ERROR)


@pytest.fixture(autouse=True)
def _tasks_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[1] / "acceptance"), *sys.path])


def test_no_statement_of_a_service_knows_a_person_and_progress_is_written_four_times_a_second_at_most(
    store: Store, tmp_path: Path
) -> None:
    slow = a_dataset(store, tmp_path, seconds=1)
    datasets = [slow, a_dataset(store, tmp_path, does="read_damaged")]

    statements = statements_of_a_service(store, tmp_path, datasets)

    assert any("visstoredatas" in statement for statement in statements)
    assert [statement for statement in statements if ABOUT_PEOPLE.search(statement)] == []
    whole = re.compile(r'find(AndModify)? visstoredatas (?!.*"(projection|fields)": \{"(?!_id))')
    assert [statement for statement in statements if whole.match(statement)] == []
    (job,) = JobQueueManager(store).list_jobs(dataset_uuid=slow)
    assert job.started_at is not None
    assert job.finished_at is not None
    seconds = (job.finished_at - job.started_at).total_seconds()
    written = [statement for statement in statements if WRITES_JOB.search(statement) and "piece" in statement]
    assert 1 < len(written) <= 4 * seconds + 1
