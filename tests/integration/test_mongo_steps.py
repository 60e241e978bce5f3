"""Between two steps of one process another acts, or the first dies: the steps of the queue over the wire."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from scientistcloud.database.mongo.collection import Collection
from scientistcloud.database.mongo.connection import Connection
from scientistcloud.database.mongo.documents import JOB_FIELDS, PLACE, document_of
from scientistcloud.database.mongo.jobs import MongoJobs
from scientistcloud.database.mongo.migrations import find, migrate
from scientistcloud.database.mongo.steps import Steps
from scientistcloud.errors import LeaseLost, QueueFull, Unavailable
from scientistcloud.jobs import lifecycle
from scientistcloud.records import Job, JobError, JobStatus, NewJob, WaitsFor

OOPS = JobError(type="OSError", message="the disk hiccuped")


class Died(Exception):
    """The process ends here."""


class Interrupted:
    """A collection before whose next call of some name something else happens, once."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._happens: dict[str, Callable[[], object]] = {}

    def before(self, call: str, happens: Callable[[], object]) -> None:
        self._happens[call] = happens

    def __getattr__(self, call: str) -> Any:
        asked = getattr(self._collection, call)

        def interrupted(*arguments: Any, **options: Any) -> Any:
            if (happens := self._happens.pop(call, None)) is not None:
                happens()
            return asked(*arguments, **options)

        return interrupted


class NoBell:
    def ring(self) -> None:
        """Nobody sleeps here."""

    def sleep(self, seconds: float, until_due: float | None) -> bool:
        raise AssertionError

    def rouse(self) -> None:
        """Nobody sleeps here."""


@pytest.fixture
def connection(mongodb_url: str) -> Iterator[Connection]:
    connection = Connection(mongodb_url)
    migrate(connection)
    yield connection
    connection.close()


@pytest.fixture
def rival(connection: Connection) -> MongoJobs:
    """The queue as every other process has it."""
    return MongoJobs(connection, connection.clock, NoBell())


@pytest.fixture
def steps(connection: Connection) -> Interrupted:
    """What the process under test asks of `jobs`."""
    return Interrupted(connection.jobs)


@pytest.fixture
def queue(mongodb_url: str, steps: Interrupted) -> Iterator[MongoJobs]:
    """The queue of the process under test."""
    connection = Connection(mongodb_url)
    find(connection)
    connection.jobs = steps
    yield MongoJobs(connection, connection.clock, NoBell())
    connection.close()


def a_job(job_id: str, dataset_uuid: str = str(uuid.uuid4()), **more: Any) -> NewJob:
    return NewJob(job_id=job_id, dataset_uuid=dataset_uuid, job_type="t", parameters={}, **more)


def claim(jobs: MongoJobs, worker_id: str = "ada") -> Job | None:
    claimed = jobs.claim(worker_id, limit=1, job_types=None, lease_seconds=30)
    return claimed[0] if claimed else None


def claimed(jobs: MongoJobs, worker_id: str = "ada") -> Job:
    job = claim(jobs, worker_id)
    assert job is not None
    return job


def now_of(jobs: MongoJobs, job_id: str) -> Job:
    job = jobs.get(job_id)
    assert job is not None
    return job


def dies(*_: object) -> None:
    raise Died


def age(connection: Connection, job: Job, seconds: float) -> None:
    jobs = connection.database.jobs
    document = jobs.find_one({"job_id": job.job_id})
    assert document is not None
    document["heartbeat_at"] -= timedelta(seconds=seconds)
    jobs.replace_one({"_id": document["_id"]}, document)


def forget(connection: Connection, dataset_uuid: str) -> None:
    """Let those that are coming to the line be so late that they are given up."""
    lanes = connection.database.lanes
    lane = lanes.find_one({"_id": dataset_uuid})
    assert lane is not None
    lanes.replace_one(
        {"_id": dataset_uuid}, lane | {"coming": {job_id: at - 601 for job_id, at in lane["coming"].items()}}
    )


def dies_before_its_job_is_there(queue: MongoJobs, steps: Interrupted, job: NewJob) -> None:
    """A creator that has the last place of a line, and goes no further."""
    steps.before("insert_one", dies)
    with pytest.raises(Died):
        queue.create([job], max_pending_per_dataset=1)


# -- room in a line ------------------------------------------------------------------------------


def test_a_creator_that_died_before_its_job_was_there_keeps_its_place_for_ten_minutes(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted, connection: Connection
) -> None:
    dataset_uuid = str(uuid.uuid4())
    dies_before_its_job_is_there(queue, steps, a_job("dead", dataset_uuid))

    with pytest.raises(QueueFull, match=dataset_uuid):
        rival.create([a_job("soon", dataset_uuid)], max_pending_per_dataset=1)
    forget(connection, dataset_uuid)
    rival.create([a_job("later", dataset_uuid)], max_pending_per_dataset=1)

    assert [job.job_id for job in rival.find(dataset_uuid=dataset_uuid)] == ["later"]


@pytest.mark.parametrize("key", [None, "convert"])
def test_a_creator_that_was_stopped_until_its_place_was_given_away_does_not_come_any_more(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted, connection: Connection, key: str | None
) -> None:
    dataset_uuid = str(uuid.uuid4())

    def its_place_is_given_away() -> None:
        forget(connection, dataset_uuid)
        rival.create([a_job("another", dataset_uuid)], max_pending_per_dataset=1)

    steps.before("insert_one", its_place_is_given_away)

    with pytest.raises(Unavailable, match="create it again"):
        queue.create([a_job("late", dataset_uuid, idempotency_key=key)], max_pending_per_dataset=1)
    with pytest.raises(QueueFull, match="1 unfinished"):
        queue.create([a_job("again", dataset_uuid, idempotency_key=key)], max_pending_per_dataset=1)

    # What bars it is no job, to nobody.
    assert queue.get("late") is None
    assert (queue.adopt(), queue.recover()) == (0, 0)
    assert [job.job_id for job in queue.find()] == ["another"]
    assert claimed(queue).job_id == "another"
    assert sum(queue.stats().by_status.values()) == 1


def test_a_creator_that_comes_after_all_before_its_place_is_given_away_is_counted(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted, connection: Connection
) -> None:
    dataset_uuid = str(uuid.uuid4())
    dies_before_its_job_is_there(queue, steps, late := a_job("late", dataset_uuid))
    forget(connection, dataset_uuid)
    job = lifecycle.created(late, seq=1, line_free=False, now=connection.clock.now())
    steps.before("insert_one", lambda: connection.jobs.insert_one(document_of(job, JOB_FIELDS) | {PLACE: 1}))

    with pytest.raises(QueueFull, match="1 unfinished"):
        queue.create([a_job("another", dataset_uuid)], max_pending_per_dataset=1)


# -- another acts in between ---------------------------------------------------------------------


def test_who_paused_before_his_claim_while_another_had_the_job_gets_nothing(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted
) -> None:
    rival.create([a_job("one")])

    def another_has_it_and_gives_it_back() -> None:
        rival.pause("t")  # so that nothing is there when the late one looks again
        rival.resume("t")
        rival.release(claimed(rival, "bob"))
        rival.pause("t")

    steps.before("find_one_and_update", another_has_it_and_gives_it_back)

    assert claim(queue, "late") is None
    job = now_of(rival, "one")
    assert (job.status, job.worker_id, [each.worker_id for each in job.history]) == (
        JobStatus.PENDING,
        None,
        ["bob"],
    )


def test_who_paused_before_his_claim_of_a_job_that_was_cancelled_and_retried_gets_nothing(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted
) -> None:
    rival.create([a_job("one"), a_job("two"), a_job("three")])

    def goes_to_the_end_of_the_line() -> None:
        rival.cancel("one")
        rival.retry("one")

    steps.before("find_one_and_update", goes_to_the_end_of_the_line)

    assert claimed(queue, "late").job_id == "two"
    assert now_of(rival, "one").waits_for is WaitsFor.TURN


def test_a_job_that_was_cancelled_and_retried_meanwhile_is_looked_at_again_before_it_is_claimed(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted
) -> None:
    rival.create([a_job("one")])

    def is_another_by_now() -> None:
        rival.cancel("one")
        rival.retry("one")

    steps.before("find_one_and_update", is_another_by_now)

    # The token drawn for the first look is wasted: it was not for this job as it is now.
    assert claimed(queue, "late").token == 2


def test_a_heartbeat_that_comes_before_the_reaper_s_write_keeps_the_job(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted, connection: Connection
) -> None:
    rival.create([a_job("one")])
    job = claimed(rival)
    age(connection, job, 31)
    steps.before("find_one_and_update", lambda: rival.heartbeat(job))

    queue.recover()

    assert now_of(rival, "one").status is JobStatus.RUNNING
    assert rival.heartbeat(job).worker_id == "ada"


def test_a_cancel_that_comes_before_the_write_of_a_failure_is_not_lost(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted
) -> None:
    rival.create([a_job("one")])
    job = claimed(queue)
    steps.before("find_one_and_update", lambda: rival.cancel("one"))

    ended = queue.fail(job, OOPS, retry_after_seconds=60)

    assert ended.status is JobStatus.CANCELLED


def test_a_completion_after_the_job_was_given_to_another_changes_nothing(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted, connection: Connection
) -> None:
    rival.create([a_job("one")])
    job = claimed(queue)

    def is_given_to_another() -> None:
        age(connection, job, 31)
        rival.recover(dead=["ada"])

    steps.before("find_one_and_update", is_given_to_another)

    with pytest.raises(LeaseLost):
        queue.complete(job, result={"by": "late"})
    assert now_of(rival, "one").result is None


def test_an_end_that_comes_first_is_never_overwritten(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted
) -> None:
    rival.create([a_job("one")])
    job = claimed(queue)
    steps.before("find_one_and_update", lambda: rival.complete(job, result={"done": True}))

    with pytest.raises(LeaseLost):
        queue.fail(job, OOPS, retry_after_seconds=0)

    assert (now_of(rival, "one").status, now_of(rival, "one").result) == (JobStatus.COMPLETED, {"done": True})


def test_two_that_promote_at_once_make_one_head(queue: MongoJobs, rival: MongoJobs, steps: Interrupted) -> None:
    rival.create([a_job("one"), a_job("two"), a_job("three")])
    job = claimed(queue)
    steps.before("update_one", rival.recover)  # it promotes too, just before

    queue.complete(job, result=None)

    heads = [each.job_id for each in rival.find() if each.head is not None]
    assert heads == ["two"]


def test_an_older_job_that_comes_late_and_becomes_the_head_stays_the_only_one(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted, connection: Connection
) -> None:
    line = a_job("older").dataset_uuid
    place = Steps(connection, connection.clock, lambda: None)
    seq = place.draw(line, "seq")

    def comes_late() -> None:
        older = lifecycle.created(a_job("older"), seq=seq, line_free=False, now=connection.clock.now())
        connection.jobs.insert_one(document_of(older, JOB_FIELDS) | {PLACE: 1})
        assert place.promote(line)

    steps.before("update_one", comes_late)  # after the younger one has found itself the oldest

    queue.create([a_job("younger")])

    assert [each.job_id for each in rival.find() if each.head is not None] == ["older"]
    assert all_run(rival) == ["older", "younger"]


def test_two_that_create_with_one_key_at_once_create_one_job(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted
) -> None:
    steps.before("insert_one", lambda: rival.create([a_job("theirs", idempotency_key="k")]))

    assert queue.create([a_job("ours", idempotency_key="k")]) == ["theirs"]
    assert [job.job_id for job in rival.find()] == ["theirs"]


def test_of_many_created_at_once_those_whose_keys_others_took_are_theirs(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted
) -> None:
    steps.before("insert_many", lambda: rival.create([a_job("theirs", idempotency_key="k")]))

    got = queue.create([a_job("a"), a_job("b", idempotency_key="k"), a_job("c", idempotency_key="l")])

    assert got == ["a", "theirs", "c"]
    assert sorted(job.job_id for job in rival.find()) == ["a", "c", "theirs"]


# -- it dies in between --------------------------------------------------------------------------


def all_run(jobs: MongoJobs) -> list[str]:
    """Claim and complete until nothing is left; the ids in that order."""
    order = []
    while job := claim(jobs, "heir"):
        order.append(job.job_id)
        jobs.complete(job, result=None)
    return order


def test_a_job_whose_creator_died_before_it_got_its_place_is_run(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted
) -> None:
    rival.recover()  # care has been here, and sees only what is new
    steps.before("update_one", dies)
    with pytest.raises(Died):
        queue.create([a_job("one")])
    assert now_of(rival, "one").waits_for is WaitsFor.TURN
    assert claim(rival) is None

    assert rival.recover() == 1
    assert all_run(rival) == ["one"]


def test_a_key_that_is_said_again_mends_what_its_creator_left(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted
) -> None:
    rival.recover()  # care was here just before, and is not due
    steps.before("update_one", dies)
    with pytest.raises(Died):
        queue.create([a_job("one", idempotency_key="k")])

    assert rival.create([a_job("again", idempotency_key="k")]) == ["one"]
    assert all_run(rival) == ["one"]


@pytest.mark.parametrize("end", ["complete", "fail", "cancel", "reap"])
def test_a_line_whose_head_ended_and_whose_worker_died_there_goes_on(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted, connection: Connection, end: str
) -> None:
    rival.recover()
    rival.create([a_job("one", max_attempts=1), a_job("two")])
    job = claimed(rival)
    steps.before("update_one", dies)  # the promotion

    if end == "cancel":
        rival.release(job)
    if end == "reap":
        age(connection, job, 31)
    ends: dict[str, Callable[[], object]] = {
        "complete": lambda: queue.complete(job, result=None),
        "fail": lambda: queue.fail(job, OOPS, retry_after_seconds=0),
        "cancel": lambda: queue.cancel("one"),
        "reap": queue.recover,
    }

    with pytest.raises(Died):
        ends[end]()

    assert now_of(rival, "one").status.ended
    assert now_of(rival, "two").waits_for is WaitsFor.TURN
    assert rival.recover() >= 1
    assert all_run(rival) == ["two"]


def test_a_retry_that_died_before_the_job_got_its_place_is_mended(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted
) -> None:
    rival.recover()
    rival.create([a_job("one")])
    rival.cancel("one")
    steps.before("update_one", dies)
    with pytest.raises(Died):
        queue.retry("one")

    assert rival.recover() == 1
    assert all_run(rival) == ["one"]


def test_without_care_a_claim_mends_by_itself_what_nobody_has_looked_at(
    queue: MongoJobs, steps: Interrupted, connection: Connection
) -> None:
    steps.before("update_one", dies)
    with pytest.raises(Died):
        queue.create([a_job("one")])

    newcomer = MongoJobs(connection, connection.clock, NoBell())

    assert claimed(newcomer).job_id == "one"


def test_what_was_written_long_ago_is_come_round_to(
    queue: MongoJobs, rival: MongoJobs, steps: Interrupted, connection: Connection
) -> None:
    rival.recover()
    steps.before("update_one", dies)
    with pytest.raises(Died):
        queue.create([a_job("one")])
    document = connection.database.jobs.find_one({"job_id": "one"})
    assert document is not None
    document["updated_at"] -= timedelta(hours=1)  # its creator hung so long before it wrote
    connection.database.jobs.replace_one({"_id": document["_id"]}, document)

    assert rival.recover() == 1
    assert all_run(rival) == ["one"]
