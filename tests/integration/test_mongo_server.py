"""What is asked of a MongoDB server, and what only a real one shows: SCIENTISTCLOUD_TEST_MONGODB_URL names one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
from bson import json_util

from mongo_server import drop, new_database
from scientistcloud import JobQueueManager, open_store
from scientistcloud.database.mongo.connection import Connection
from scientistcloud.database.mongo.migrations import INDEXES
from scientistcloud.database.mongo.waking import Waking
from scientistcloud.errors import IncompatibleInstallation, InvalidParameters, Unavailable
from scientistcloud.ports import Store
from scientistcloud.records import JobStatus

TYPES = ("dataset_conversion", "file_extraction", "dataset_import")


@pytest.fixture
def store(mongodb_url: str) -> Iterator[Store]:
    store = open_store(mongodb_url)
    yield store
    store.close()


@pytest.fixture
def database(mongodb_url: str) -> Iterator[pymongo.database.Database[dict[str, Any]]]:
    """The database as any other client has it."""
    with pymongo.MongoClient[dict[str, Any]](mongodb_url, tz_aware=True) as client:
        yield client.get_default_database()


@pytest.fixture
def real(mongodb_server: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](mongodb_server) as client:
        about = client.admin.command("buildInfo")
    if "storageEngines" not in about:  # a server of the protocol that is not MongoDB itself
        pytest.skip("only MongoDB itself shows it; name such a server in SCIENTISTCLOUD_TEST_MONGODB_URL")


# -- on any server -------------------------------------------------------------------------------


def test_a_document_of_five_fields_that_another_client_inserts_is_run_and_reads_like_ours(
    store: Store, database: pymongo.database.Database[dict[str, Any]]
) -> None:
    five = {
        "job_id": str(uuid.uuid4()),
        "dataset_uuid": str(uuid.uuid4()),
        "job_type": "dataset_conversion",
        "status": "pending",
        "parameters": {"input_path": "a", "output_path": "b", "sensor_type": "TIFF"},
    }
    database.jobs.insert_one(dict(five))
    queue = JobQueueManager(store)

    job = queue.get_next_job("ada")

    assert job is not None
    assert (job.job_id, job.dataset_uuid, job.parameters) == (
        five["job_id"],
        five["dataset_uuid"],
        five["parameters"],
    )
    queue.complete_job(job, {"shape": [1, 2]})
    document = database.jobs.find_one({"job_id": five["job_id"]})
    assert document is not None
    assert {name: document[name] for name in five} == five | {"status": "completed"}
    assert document["result"] == {"shape": [1, 2]}


def test_a_document_that_is_no_job_at_all_fails_and_keeps_nobody_up(
    store: Store, database: pymongo.database.Database[dict[str, Any]]
) -> None:
    database.jobs.insert_many([{"note": n} for n in range(150)])
    queue = JobQueueManager(store)
    ours = queue.create_job(dataset_uuid=str(uuid.uuid4()), job_type="dataset_conversion", parameters={})

    store.jobs.adopt()

    job = queue.get_next_job("ada")
    assert job is not None
    assert job.job_id == ours
    assert store.jobs.stats().by_status["failed"] == 150
    assert store.jobs.adopt() == 0


def test_documents_read_as_the_architecture_of_record_says(
    store: Store, database: pymongo.database.Database[dict[str, Any]]
) -> None:
    dataset_uuid = str(uuid.uuid4())
    job_id = JobQueueManager(store).create_job(
        dataset_uuid=dataset_uuid, job_type="dataset_conversion", parameters={"sensor_type": "TIFF"}
    )

    document = database.jobs.find_one({"dataset_uuid": dataset_uuid})

    assert document is not None
    five = ("job_id", "dataset_uuid", "job_type", "status", "parameters")
    assert [document[name] for name in five] == [
        job_id, dataset_uuid, "dataset_conversion", "pending", {"sensor_type": "TIFF"},
    ]  # fmt: skip
    assert document["created_at"].tzinfo is not None
    assert "idempotency_key" not in document  # absent, so that its unique index leaves it out


def test_each_write_waits_for_a_majority_and_its_journal(store: Store) -> None:
    queue = JobQueueManager(store)

    with store.trace() as sent:
        queue.create_job(dataset_uuid=str(uuid.uuid4()), job_type="dataset_conversion", parameters={})
        job = queue.get_next_job("ada")
        assert job is not None
        queue.complete_job(job)

    writes = [said for said in sent if said.split(" ", 1)[0] in ("insert", "update", "findAndModify", "delete")]
    assert len(writes) > 5
    for said in writes:
        options = json_util.loads(said.split(" ", 2)[2])
        assert options["writeConcern"] == {"w": "majority", "j": True}, said


def test_each_write_of_the_queue_is_one_document_and_nothing_that_servers_lack(store: Store) -> None:
    queue = JobQueueManager(store)
    dataset_uuid = str(uuid.uuid4())

    with store.trace() as sent:
        for _ in range(2):
            queue.create_job(dataset_uuid=dataset_uuid, job_type="dataset_conversion", parameters={})
        first = queue.get_next_job("ada")
        assert first is not None
        queue.heartbeat(first, progress=0.5)
        queue.fail_job(first, "for good", permanent=True)
        queue.retry_job(first.job_id)
        second = queue.get_next_job("ada")
        assert second is not None
        queue.release_job(second)
        queue.cancel_job(second.job_id)
        store.jobs.recover()

    text = "\n".join(sent)
    for lacking in ("$$NOW", "arrayFilters", "$push", "startTransaction", "$expr", '"multi": true', "aggregate"):
        assert lacking not in text, lacking
    for said in sent:
        if said.startswith("insert jobs"):
            assert len(json_util.loads(said.split(" ", 2)[2])["documents"]) == 1
        if said.startswith("findAndModify jobs"):
            update = json_util.loads(said.split(" ", 2)[2])["update"]
            assert "head" not in update.get("$set", {}), "it could hit the unique index of heads"


@pytest.mark.parametrize(
    "parameters",
    [{"a.b": 1, "$where": [{"$x": 1}], "": "empty"}, {"n": 2**63 - 1, "x": 1e300, "deep": [[[[{}]]]]}],
    ids=["odd keys", "large numbers"],
)
def test_parameters_come_back_as_they_were(store: Store, parameters: dict[str, Any]) -> None:
    queue = JobQueueManager(store)

    job_id = queue.create_job(dataset_uuid=str(uuid.uuid4()), job_type="dataset_conversion", parameters=parameters)

    job = queue.get_next_job("ada")
    assert job is not None
    assert (job.job_id, job.parameters) == (job_id, parameters)


@pytest.mark.parametrize("parameters", [{"n": 2**70}, {"a\0b": 1}], ids=["a number of 71 bits", "NUL in a key"])
def test_what_mongodb_cannot_keep_is_refused_and_says_so(store: Store, parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameters, match="MongoDB cannot keep this"):
        JobQueueManager(store).create_job(
            dataset_uuid=str(uuid.uuid4()), job_type="dataset_conversion", parameters=parameters
        )


def test_indexes_are_made_again_by_whoever_opens_the_database(
    store: Store, database: pymongo.database.Database[dict[str, Any]]
) -> None:
    for name, index in database.jobs.index_information().items():
        if index["key"][0][0] != "_id":
            database.jobs.drop_index(name)
    assert len(store.meta.state().problems) == len(INDEXES["jobs"])

    open_store(store.url).close()

    assert store.meta.state().problems == ()


def test_documents_that_share_what_may_be_there_once_are_named(mongodb_server: str) -> None:
    url = new_database(mongodb_server)
    try:
        with pymongo.MongoClient[dict[str, Any]](url) as client:
            client.get_default_database().jobs.insert_many([{"job_id": "twice"}, {"job_id": "twice"}])

        with pytest.raises((IncompatibleInstallation, Unavailable), match=r"jobs|UNIQUE"):
            open_store(url)
    finally:
        drop(url)


def test_a_member_that_takes_no_writes_is_said_to_be_no_primary() -> None:
    from pymongo.errors import NotPrimaryError, OperationFailure

    from scientistcloud.database.mongo.faults import translated

    for error in (OperationFailure("not primary", 10107), NotPrimaryError("not primary", {"code": 10107})):
        said = translated(error, "lab:27017/db")
        assert isinstance(said, Unavailable)
        assert "lab:27017/db" in str(said)


# -- on a real one alone -------------------------------------------------------------------------


@pytest.mark.usefixtures("real")
def test_a_claim_reads_the_index_in_order_and_no_key_too_many(
    store: Store, database: pymongo.database.Database[dict[str, Any]]
) -> None:
    queue = JobQueueManager(store)
    crowded = str(uuid.uuid4())
    queue.create_jobs(
        [
            {"dataset_uuid": str(uuid.uuid4()), "job_type": job_type, "parameters": {}}
            for job_type in TYPES
            for _ in range(300)
        ]
        + [{"dataset_uuid": crowded, "job_type": TYPES[0], "parameters": {}} for _ in range(500)]
    )
    queue.get_next_job("warm")

    with store.trace() as sent:
        assert queue.get_next_job("ada") is not None

    looks = [said for said in sent if said.startswith("find jobs")]
    plans = [_explained(database, said) for said in looks]
    for said, plan in zip(looks, plans, strict=True):
        stages = str(plan["queryPlanner"]["winningPlan"])
        assert "IXSCAN" in stages, said
        assert "COLLSCAN" not in stages, said
        assert "'SORT'" not in stages, said
    ready = [
        plan["executionStats"]["totalKeysExamined"]
        for said, plan in zip(looks, plans, strict=True)
        if '"waits_for": "nothing"' in said
    ]
    assert len(ready) == len(TYPES)
    assert sum(ready) <= len(TYPES) + 1


@pytest.mark.usefixtures("real")
def test_the_next_of_a_long_line_is_found_by_one_key(
    store: Store, database: pymongo.database.Database[dict[str, Any]]
) -> None:
    queue = JobQueueManager(store)
    crowded = str(uuid.uuid4())
    queue.create_jobs([{"dataset_uuid": crowded, "job_type": TYPES[0], "parameters": {}} for _ in range(500)])
    job = queue.get_next_job("ada")
    assert job is not None

    with store.trace() as sent:
        queue.complete_job(job)

    (look,) = [said for said in sent if said.startswith("find jobs") and '"waits_for": "turn"' in said]
    plan = _explained(database, look)
    assert "'SORT'" not in str(plan["queryPlanner"]["winningPlan"])
    assert plan["executionStats"]["totalKeysExamined"] == 1


@pytest.mark.usefixtures("real")
def test_unique_indexes_leave_out_documents_without_their_field(
    store: Store, database: pymongo.database.Database[dict[str, Any]]
) -> None:
    for name, indexes in INDEXES.items():
        there = {
            tuple(field for field, _ in each["key"]): each for each in database[name].index_information().values()
        }
        for index in indexes:
            assert bool(there[index.fields].get("sparse")) == index.sparse
            assert bool(there[index.fields].get("unique")) == index.unique


@pytest.mark.usefixtures("real")
def test_a_replica_set_wakes_by_a_change_stream_and_not_by_polling(store: Store) -> None:
    connection = Connection(store.url)
    if "setName" not in connection.hello():
        connection.close()
        pytest.skip("the server is no replica set, so it has no change streams")
    waking = Waking(connection)
    waking.begin()
    waking.sleep(1, None)
    began = time.monotonic()
    JobQueueManager(store).create_job(dataset_uuid=str(uuid.uuid4()), job_type="dataset_conversion", parameters={})

    assert waking.sleep(10, None)
    assert time.monotonic() - began < 10
    assert connection.jobs.count({"status": JobStatus.PENDING.value}) == 1
    waking.close()
    connection.close()


def _explained(database: pymongo.database.Database[dict[str, Any]], said: str) -> dict[str, Any]:
    """The plan of a statement as it was sent, and what it cost."""
    options = json_util.loads(said.split(" ", 2)[2])
    command = {"find": "jobs"} | {
        name: options[name] for name in ("filter", "sort", "projection", "limit") if name in options
    }
    return database.command("explain", command, verbosity="executionStats")
