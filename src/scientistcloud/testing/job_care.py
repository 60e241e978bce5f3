"""What every job store does beside the line: other clients, pruning, threads, waking."""

from __future__ import annotations

import threading
import time
import uuid
from datetime import timedelta

import pytest

from scientistcloud.errors import (
    IdempotencyConflict,
)
from scientistcloud.ports import Store
from scientistcloud.records import JobStatus
from scientistcloud.testing.jobs import (
    CONVERSION,
    HEART,
    LUNG,
    JobStoreFixtures,
    a_job,
    claim,
    claimed,
    now_of,
)


class CareContract(JobStoreFixtures):
    """What keeps the queue in order."""

    # -- care ---------------------------------------------------------------------------------

    def test_five_fields_of_another_client_are_adopted_and_run(self, store: Store) -> None:
        self.insert_five_fields(
            store,
            job_id="foreign",
            dataset_uuid=HEART,
            job_type=CONVERSION,
            status="pending",
            parameters='{"input_path": "a"}',
        )

        assert store.jobs.adopt() == 1

        job = claimed(store)
        assert (job.job_id, job.parameters, job.max_attempts) == ("foreign", {"input_path": "a"}, 3)

    def test_adopted_jobs_take_their_place_in_the_line(self, store: Store) -> None:
        store.jobs.create([a_job(job_id="ours")])
        self.insert_five_fields(
            store, job_id="foreign", dataset_uuid=HEART, job_type=CONVERSION, status="pending", parameters="{}"
        )
        store.jobs.adopt()

        first = claimed(store)
        store.jobs.complete(first, result=None)

        assert (first.job_id, claimed(store).job_id) == ("ours", "foreign")

    def test_a_claim_adopts_by_itself(self, store: Store) -> None:
        self.insert_five_fields(
            store, job_id="foreign", dataset_uuid=HEART, job_type=CONVERSION, status="pending", parameters="{}"
        )

        assert claimed(store).job_id == "foreign"

    @pytest.mark.parametrize(
        ("five", "why"),
        [
            ({"parameters": '{"a": [{"user_email": "x"}]}'}, "person"),
            ({"parameters": "[1]"}, "JSON object"),
            ({"parameters": "nonsense"}, "insert it anew"),
            ({"status": "gathering"}, "gathering"),
            ({"dataset_uuid": "heart"}, "UUID"),
        ],
    )
    def test_a_foreign_job_that_cannot_be_accepted_fails_and_says_why(
        self, store: Store, five: dict[str, str], why: str
    ) -> None:
        good = {"dataset_uuid": HEART, "job_type": CONVERSION, "status": "pending", "parameters": "{}"}
        self.insert_five_fields(store, job_id="foreign", **(good | five))

        store.jobs.adopt()

        job = now_of(store, "foreign")
        assert job.status is JobStatus.FAILED
        assert job.error is not None
        assert why in job.error.message
        assert claim(store) is None

    def test_pruning_removes_old_ends_but_never_the_newest_job_of_a_data_set(self, store: Store) -> None:
        store.jobs.create([a_job(job_id=name) for name in ("old", "newest")] + [a_job(LUNG, job_id="only")])
        while job := claim(store):
            store.jobs.complete(job, result=None)
        store.jobs.create([a_job(str(uuid.uuid4()), job_id="pending")])

        gone = store.jobs.prune(before=store.clock.now() + timedelta(seconds=1))

        assert list(gone) == ["old"]
        assert store.jobs.get("old") is None
        assert {job.job_id for job in store.jobs.find()} == {"newest", "only", "pending"}

    def test_pruning_leaves_what_ended_later_and_goes_in_steps(self, store: Store) -> None:
        store.jobs.create([a_job() for _ in range(4)])
        while job := claim(store):
            store.jobs.complete(job, result=None)

        assert store.jobs.prune(before=store.clock.now() - timedelta(days=1)) == []
        soon = store.clock.now() + timedelta(seconds=1)
        assert [len(store.jobs.prune(before=soon, limit=2)) for _ in range(3)] == [2, 1, 0]

    def test_pruning_by_number_removes_the_oldest_ends_beyond_it(self, store: Store) -> None:
        names = [f"job {n}" for n in range(5)]
        store.jobs.create([a_job(job_id=name) for name in names] + [a_job(LUNG, job_id="only")])
        while job := claim(store):
            store.jobs.complete(job, result=None)
        long_ago = store.clock.now() - timedelta(days=1)

        assert store.jobs.prune(before=long_ago, keep=6) == []
        assert list(store.jobs.prune(before=long_ago, keep=3, limit=1)) == ["job 0"]
        assert list(store.jobs.prune(before=long_ago, keep=3)) == ["job 1", "job 2"]
        # The newest of each data set stays, however few are to be kept.
        assert list(store.jobs.prune(before=long_ago, keep=0)) == ["job 3"]
        assert store.jobs.prune(before=long_ago, keep=0) == []

    def test_all_jobs_of_a_data_set_can_be_forgotten(self, store: Store) -> None:
        store.jobs.create([a_job(), a_job(), a_job(LUNG, job_id="kept")])

        store.jobs.remove(HEART)
        store.jobs.remove(HEART)

        assert [job.job_id for job in store.jobs.find()] == ["kept"]

    # -- threads and waking -------------------------------------------------------------------

    def test_two_claimers_never_receive_the_same_job(self, store: Store) -> None:
        ids = store.jobs.create([a_job(str(uuid.uuid4())) for _ in range(60)])
        got: list[str] = []

        def work(worker_id: str) -> None:
            while job := claim(store, worker_id):
                got.append(job.job_id)

        self._in_threads(work, 4)

        assert sorted(got) == sorted(ids)

    def test_creators_side_by_side_each_get_their_own_jobs(self, store: Store) -> None:
        uuids = [str(uuid.uuid4()) for _ in range(5)]
        got: dict[str, list[str]] = {}

        def create(name: str) -> None:
            got[name] = [
                store.jobs.create([a_job(dataset_uuid, idempotency_key=f"{name} {dataset_uuid} {n}")])[0]
                for n in range(4)
                for dataset_uuid in uuids
            ]

        self._in_threads(create, 6)

        for name, ids in got.items():
            keys = [now_of(store, job_id).idempotency_key for job_id in ids]
            assert keys == [f"{name} {dataset_uuid} {n}" for n in range(4) for dataset_uuid in uuids]
        for dataset_uuid in uuids:
            seqs = [job.seq for job in store.jobs.find(dataset_uuid=dataset_uuid)]
            assert len(seqs) == len(set(seqs)) == 24

    def test_one_creator_s_mistake_is_nobody_else_s(self, store: Store) -> None:
        store.jobs.create([a_job(idempotency_key="k")])
        made: list[str] = []

        def create(name: str) -> None:
            for n in range(10):
                if name.endswith("0"):
                    with pytest.raises(IdempotencyConflict):
                        store.jobs.create([a_job(LUNG), a_job(LUNG, idempotency_key="k")])
                else:
                    made.extend(store.jobs.create([a_job(idempotency_key=f"{name} {n}")]))

        self._in_threads(create, 4)

        assert len(made) == 30
        assert all(store.jobs.get(job_id) for job_id in made)
        assert store.jobs.find(dataset_uuid=LUNG) == []

    def test_a_sleeper_is_woken_by_a_creation(self, store: Store) -> None:
        store.jobs.wait(0)
        woken: list[float] = []
        began = time.monotonic()
        sleeper = threading.Thread(target=lambda: woken.append(self._slept(store, began)))
        sleeper.start()
        time.sleep(0.1)

        store.jobs.create([a_job()])
        sleeper.join(30)

        assert len(woken) == 1
        assert woken[0] < 20

    def test_a_sleeper_is_woken_when_its_type_is_resumed(self, store: Store) -> None:
        store.jobs.create([a_job()])
        store.jobs.pause(CONVERSION)
        got: list[str] = []

        def work() -> None:
            while not got:
                got.extend(job.job_id for job in [claim(store)] if job)
                if not got:
                    store.jobs.wait(20)

        sleeper = threading.Thread(target=work)
        sleeper.start()
        time.sleep(0.1)
        store.jobs.resume(CONVERSION)
        self._until(lambda: bool(got), seconds=20)
        sleeper.join(30)

    def test_every_sleeper_is_roused_and_so_is_who_sleeps_next(self, store: Store) -> None:
        asleep, woken = threading.Barrier(3), []

        def sleep() -> None:
            while store.jobs.wait(0.01):
                pass
            asleep.wait(20)
            woken.append(store.jobs.wait(1000))

        sleepers = [threading.Thread(target=sleep) for _ in range(2)]
        for sleeper in sleepers:
            sleeper.start()
        while store.jobs.wait(0.01):
            pass
        asleep.wait(20)
        time.sleep(0.1)

        store.jobs.rouse()
        for sleeper in sleepers:
            sleeper.join(20)

        assert woken == [True, True]
        assert store.jobs.wait(1000)

    def test_a_sleeper_nobody_wakes_sleeps_on(self, store: Store) -> None:
        while store.jobs.wait(0.01):
            pass

        assert store.jobs.wait(0.05) is False
