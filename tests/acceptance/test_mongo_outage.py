"""A MongoDB server that is killed, stopped, or gone in the middle of a command."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pymongo
import pytest
from cut_line import line_to
from service_site import Site, eventually
from test_serve import serving

from mongo_server import MongoServer, new_database
from scientistcloud import JobQueueManager, open_store
from scientistcloud.errors import IncompatibleInstallation, InvalidSettings, Unavailable
from scientistcloud.ports import Store
from scientistcloud.records import DatasetStatus, JobStatus

HASTY = "?timeoutMS=3000"
HASTIER = "?timeoutMS=1500"  # for programs that try again by themselves
NO_ANSWER_SECONDS = 0.5
"""So long is waited for an answer that cannot come."""


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    server = MongoServer(tmp_path_factory.mktemp("mongodb"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(_server: MongoServer) -> Iterator[MongoServer]:
    """A server that runs, and that the test may harm."""
    yield _server
    if not _server.runs:
        _server.start()


@pytest.fixture
def database(server: MongoServer) -> str:
    """The address of a database of the test's own on it, without options."""
    return new_database(f"mongodb://{server.address}")


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = open_store(database + HASTY)
    yield store
    store.close()


def create(store: Store) -> str:
    return JobQueueManager(store).create_job(
        dataset_uuid=str(uuid.uuid4()), job_type="dataset_conversion", parameters={}
    )


def answered_again(ask: Callable[[], object]) -> None:
    """`ask` until it is answered."""

    def asked() -> bool:
        try:
            ask()
        except Unavailable:
            return False
        return True

    eventually(asked, "answered again")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_that_is_gone_is_no_empty_queue_and_is_found_again(
    server: MongoServer, store: Store, how: signal.Signals
) -> None:
    job_id = create(store)
    queue = JobQueueManager(store)
    if how is signal.SIGKILL:
        server.kill()
    else:
        server.signal(how)

    for ask in (
        lambda: queue.get_next_job("ada"),
        lambda: store.targets.get("x"),
        lambda: create(store),
    ):
        with pytest.raises(Unavailable, match=server.address), pymongo.timeout(NO_ANSWER_SECONDS):
            ask()
    before = store.change_mark()  # asks nothing of the server, so that no page hangs
    assert store.change_mark() == before

    if how is signal.SIGKILL:
        server.start()
    else:
        server.signal(signal.SIGCONT)
    answered_again(queue.stats)
    job = queue.get_next_job("ada")
    assert job is not None
    assert job.job_id == job_id


def test_a_server_that_is_not_there_is_said_in_one_line(server: MongoServer) -> None:
    server.kill()

    said = pytest.raises(Unavailable, match=rf"{server.address}.*is it running")
    with said as refused, pymongo.timeout(NO_ANSWER_SECONDS):
        open_store(f"mongodb://{server.address}/nobody{HASTY}")

    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mongodb://127.0.0.1:1", "no database on it; append one"),
        ("mongodb://", "cannot be used"),
        ("mongodb://h/db?timeoutMS=soon&bogus=1", "DATABASE_URL"),
    ],
)
def test_an_address_that_cannot_be_used_says_what_is_wrong(url: str, why: str) -> None:
    with pytest.raises(InvalidSettings, match=why):
        open_store(url)


def test_a_password_is_in_no_message(server: MongoServer) -> None:
    server.kill()

    with pytest.raises(Unavailable) as refused, pymongo.timeout(NO_ANSWER_SECONDS):
        open_store(f"mongodb://ada:s3cret@{server.address}/nobody{HASTY}")

    assert "s3cret" not in str(refused.value)


def test_a_database_of_a_newer_version_is_refused(server: MongoServer, store: Store) -> None:
    store._connection.meta.update_one({"_id": "shape"}, {"$set": {"version": 99}})  # type: ignore[attr-defined]

    with pytest.raises(IncompatibleInstallation, match=r"newer ScientistCloud .*install the newer one"):
        open_store(store.url)


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ((b"findAndModify", b"lanes"), "pending"),
        ((b"findAndModify", b"jobs"), "running"),
    ],
    ids=["after the token", "after the claim"],
)
def test_a_claim_whose_answer_is_lost_is_taken_back_after_its_lease(
    server: MongoServer, database: str, store: Store, words: tuple[bytes, ...], left: str
) -> None:
    job_id = create(store)
    with line_to(server.address) as line:
        far = open_store(database.replace(server.address, line.address) + HASTY)
        try:
            line.cut_after(*words)
            with pytest.raises(Unavailable):
                JobQueueManager(far, lease_seconds=0.5).get_next_job("ada")
        finally:
            far.close()

    assert line.lost == 1
    queue = JobQueueManager(store)
    before = queue.get_job(job_id)
    assert before is not None
    assert before.status == left
    job = queue.get_next_job("bob", wait_seconds=60)
    assert job is not None
    assert (job.job_id, job.worker_id, job.token > before.token) == (job_id, "bob", True)


def test_what_was_said_and_not_heard_is_said_again_without_harm(
    server: MongoServer, database: str, store: Store
) -> None:
    with line_to(server.address) as line:
        far = open_store(database.replace(server.address, line.address) + HASTY)
        try:
            queue = JobQueueManager(far)
            dataset_uuid = str(uuid.uuid4())

            def create_job() -> str:
                return queue.create_job(
                    dataset_uuid=dataset_uuid, job_type="dataset_conversion", parameters={}, idempotency_key="k"
                )

            line.cut_after(b"insert", b"idempotency_key")
            with pytest.raises(Unavailable):
                create_job()
            job_id = create_job()
            job = queue.get_next_job("ada")
            assert job is not None
            line.cut_after(b"findAndModify", b"completed")
            with pytest.raises(Unavailable):
                queue.complete_job(job, {"by": "ada"})
            queue.complete_job(job, {"by": "ada"})
        finally:
            far.close()

    (done,) = JobQueueManager(store).list_jobs()
    assert (done.job_id, done.status, done.result) == (job_id, JobStatus.COMPLETED, {"by": "ada"})
    assert [attempt.outcome for attempt in done.history] == ["completed"]


def test_a_worker_goes_on_after_its_server_was_killed_in_the_middle_of_a_job(
    server: MongoServer, database: str, tmp_path: Path
) -> None:
    site = Site(tmp_path, database_url=database)
    try:
        worker = site.worker(DATABASE_URL=site.database_url + HASTIER)
        dataset = site.dataset()
        job_id = site.job(dataset, does="hold")
        site.started(dataset)

        server.kill()
        site.go(dataset)  # the work ends while nobody can be told
        eventually(lambda: worker.says("database does not answer"), "noticed")
        server.start()

        job = site.ended(job_id)
        assert (job.status, job.attempt) == (JobStatus.COMPLETED, 1)
        site.settled(dataset, DatasetStatus.DONE)
        assert worker.process.poll() is None
    finally:
        site.close()


def test_a_worker_without_its_server_for_a_lease_ends_its_work_and_does_it_again_afterwards(
    server: MongoServer, database: str, tmp_path: Path
) -> None:
    site = Site(tmp_path, lease_seconds=2, database_url=database)
    try:
        worker = site.worker(DATABASE_URL=site.database_url + HASTIER)
        dataset = site.dataset()
        job_id = site.job(dataset, does="hold")
        first = site.started(dataset)

        server.kill()
        eventually(lambda: not Path(f"/proc/{first}/status").exists(), "the attempt's process has ended")
        assert worker.process.poll() is None
        server.start()

        token = 2
        eventually(lambda: site.found(job_id).attempt == 2 and site.found(job_id).token >= token, "given out again")
        site.go(dataset)
        job = site.ended(job_id)
        assert (job.status, [attempt.outcome for attempt in job.history]) == (
            JobStatus.COMPLETED,
            ["lost", "completed"],
        )
        site.settled(dataset, DatasetStatus.DONE)
        assert site.form_of(dataset) == job_id
    finally:
        site.close()


def test_a_portal_says_that_its_server_is_gone_and_is_ready_once_it_is_back(
    server: MongoServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIENTISTCLOUD_DATABASE_URL", database + HASTIER)
    with serving(tmp_path) as process, httpx.Client(timeout=30) as client:
        address = json.loads((tmp_path / "portal.json").read_text())["address"]
        assert client.get(f"{address}/readyz").json() == {"status": "ready"}

        server.kill()
        gone = client.get(f"{address}/readyz")
        alive = client.get(f"{address}/healthz")
        server.start()
        eventually(lambda: client.get(f"{address}/readyz").status_code == 200, "ready again")

        assert gone.status_code == 503
        assert server.address in gone.json()["detail"]
        assert alive.status_code == 200
        assert process.poll() is None


def test_a_forked_child_finds_the_store_refused(store: Store) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            store.jobs.stats()
        except Exception as refused:  # noqa: BLE001  whatever it is, it is judged below
            status = 0 if "opened before this process was forked" in str(refused) else 2
        os._exit(status)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
