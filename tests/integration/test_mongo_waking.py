"""Who hears of what another process wrote to a MongoDB server: by looking, and by change streams."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest

from scientistcloud import JobQueueManager, open_store
from scientistcloud.database.mongo.connection import Connection
from scientistcloud.database.mongo.waking import Waking
from scientistcloud.ports import Store

PATIENCE_SECONDS = 30.0


@pytest.fixture
def other(mongodb_url: str) -> Iterator[Store]:
    """The database as another process has it open."""
    store = open_store(mongodb_url)
    yield store
    store.close()


@pytest.fixture(params=["by looking", "by change streams"])
def waking(request: pytest.FixtureRequest, other: Store) -> Iterator[Waking]:
    """Of a process that writes nothing itself."""
    connection = Connection(other.url)
    waking = Waking(connection, streams=request.param == "by change streams")
    waking.begin()
    yield waking
    waking.close()
    connection.close()


def create(store: Store) -> None:
    JobQueueManager(store).create_job(dataset_uuid=str(uuid.uuid4()), job_type="dataset_conversion", parameters={})


def eventually(what: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)


def watches(waking: Waking) -> None:
    """Until it listens: a change stream tells only of what comes after its beginning."""
    waking.mark()
    waking.sleep(0.3, None)


def test_a_sleeper_is_woken_by_what_another_process_creates(waking: Waking, other: Store) -> None:
    watches(waking)
    woken: list[float] = []

    def sleep() -> None:
        if waking.sleep(PATIENCE_SECONDS, None):
            woken.append(time.monotonic())

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    time.sleep(0.2)
    create(other)
    created = time.monotonic()
    sleeper.join(PATIENCE_SECONDS)

    assert len(woken) == 1
    assert woken[0] - created < PATIENCE_SECONDS / 2


def test_the_mark_tells_of_what_another_process_wrote(waking: Waking, other: Store) -> None:
    watches(waking)
    create(other)
    queue = JobQueueManager(other)

    job = queue.get_next_job("ada")
    assert job is not None
    time.sleep(0.5)
    before = waking.mark()
    queue.heartbeat(job, progress=0.5)
    eventually(lambda: waking.mark() != before)
    time.sleep(0.5)
    after_that = waking.mark()
    queue.complete_job(job)
    eventually(lambda: waking.mark() != after_that)


def test_a_sleeper_wakes_when_a_job_is_due_and_not_for_nothing(waking: Waking) -> None:
    watches(waking)
    while waking.sleep(0.01, None):
        pass

    assert waking.sleep(20, 0.05) is True
    assert waking.sleep(0.05, 20) is False


@pytest.mark.parametrize("waking", ["by change streams"], indirect=True)
def test_nobody_watches_once_nobody_cares(waking: Waking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scientistcloud.database.mongo.waking._WANTED_SECONDS", 0.5)
    watches(waking)
    assert waking.watching

    eventually(lambda: not waking.watching)
    waking.mark()
    assert waking.watching


def test_on_one_machine_a_sleeper_is_woken_without_a_look(
    mongodb_url: str, other: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_SHORTEST_SECONDS", "_LONGEST_SECONDS"):
        monkeypatch.setattr(f"scientistcloud.database.mongo.waking.{name}", PATIENCE_SECONDS)
    with pymongo.MongoClient[dict[str, Any]](mongodb_url) as client:
        if "setName" in client.admin.command("hello"):
            pytest.skip("a replica set tells by change streams, and no bell is rung")
    store = open_store(mongodb_url)
    for each in (store, other):
        each.share_bell(tmp_path / "wake")
    while store.jobs.wait(0.2):
        pass
    woken: list[float] = []

    def sleep() -> None:
        if store.jobs.wait(PATIENCE_SECONDS):
            woken.append(time.monotonic())

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    time.sleep(0.2)
    create(other)
    created = time.monotonic()
    sleeper.join(2 * PATIENCE_SECONDS)
    store.close()

    assert len(woken) == 1
    assert woken[0] - created < PATIENCE_SECONDS / 2
