"""What the background service asks of the database: never anything about a person."""

from __future__ import annotations

import re
import sys
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scientistcloud import BackgroundService, JobQueueManager, open_store
from scientistcloud.records import Dataset, DatasetStatus, Wanted

ABOUT_PEOPLE = re.compile(r"\b(user|user_id|user_email|owner|email|description|tags)\b|@|SELECT \*", re.IGNORECASE)


def test_no_statement_of_a_service_knows_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = Path(__file__).parents[1] / "acceptance"
    monkeypatch.setattr(sys, "path", [str(tasks), *sys.path])
    store = open_store(f"sqlite:///{tmp_path}/scientistcloud.db")
    now = datetime.now(UTC)
    datasets = [str(uuid.uuid4()) for _ in range(3)]
    for number, dataset in enumerate(datasets):
        store.datasets.add(
            Dataset(
                uuid=dataset,
                user=f"person{number}@example.org",
                name="heart",
                sensor="auto",
                status=DatasetStatus.CONVERSION_QUEUED,
                created_at=now,
                updated_at=now,
                closed_at=now,
                wanted=Wanted(
                    job_type="dataset_conversion",
                    idempotency_key=f"convert:{dataset}",
                    parameters={"does": "read_damaged"} if number else {},
                ),
            )
        )
        (tmp_path / "datasets" / dataset / "source").mkdir(parents=True)
    service = BackgroundService(store, data_dir=tmp_path, tasks=["service_tasks:Trial"])

    with store.trace() as statements:
        thread = threading.Thread(target=service.run)  # its care creates the jobs, then it runs them
        thread.start()
        try:
            until = time.monotonic() + 30
            while not all(_ended(store.targets.get(dataset)) for dataset in datasets):
                assert time.monotonic() < until, [store.targets.get(dataset) for dataset in datasets]
                time.sleep(0.01)
        finally:
            service.stop()
            thread.join()

    assert any("visstoredatas" in statement for statement in statements)
    assert [statement for statement in statements if ABOUT_PEOPLE.search(statement)] == []
    assert len(JobQueueManager(store).list_jobs()) == 3
    store.close()


def _ended(target: object) -> bool:
    return getattr(target, "status", None) in (DatasetStatus.DONE, DatasetStatus.CONVERSION_ERROR)
