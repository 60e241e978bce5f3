"""What every job store does with the lines of data sets: creating, order, looking."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scientistcloud.errors import (
    IdempotencyConflict,
    NotFound,
    QueueFull,
)
from scientistcloud.jobs.lifecycle import CANARY
from scientistcloud.ports import Store
from scientistcloud.records import JobStatus, WaitsFor
from scientistcloud.testing.jobs import (
    CONVERSION,
    HEART,
    HOPELESS,
    LUNG,
    OOPS,
    JobStoreFixtures,
    a_job,
    claim,
    claimed,
    now_of,
)


class LineContract(JobStoreFixtures):
    """Jobs on their way to a worker."""

    # -- creating -----------------------------------------------------------------------------

    def test_a_new_job_is_pending_with_all_that_was_said_of_it(self, store: Store) -> None:
        new = a_job(parameters={"input_path": "α/β", "n": [1, 2.5, None, True]}, priority=1, timeout_seconds=60)

        store.jobs.create([new])

        job = now_of(store, new.job_id)
        assert (job.dataset_uuid, job.job_type, job.status) == (HEART, CONVERSION, JobStatus.PENDING)
        assert job.parameters == {"input_path": "α/β", "n": [1, 2.5, None, True]}
        assert (job.priority, job.timeout_seconds, job.max_attempts) == (1, 60, 3)
        assert (job.attempt, job.token, job.history, job.finished_at) == (0, 0, (), None)

    def test_ids_come_back_in_the_order_of_the_jobs(self, store: Store) -> None:
        new = [a_job(), a_job(LUNG), a_job()]

        assert store.jobs.create(new) == [job.job_id for job in new]

    def test_a_known_key_gives_the_same_job(self, store: Store) -> None:
        first, again = a_job(idempotency_key="k"), a_job(idempotency_key="k")

        ids = [store.jobs.create([first])[0], store.jobs.create([again])[0]]

        assert ids == [first.job_id, first.job_id]
        assert store.jobs.get(again.job_id) is None

    def test_a_known_key_gives_the_same_job_even_when_it_has_ended(self, store: Store) -> None:
        store.jobs.create([a_job(idempotency_key="k", job_id="one")])
        store.jobs.complete(claimed(store), result=None)

        assert store.jobs.create([a_job(idempotency_key="k")]) == ["one"]

    @pytest.mark.parametrize("other", [{"dataset_uuid": LUNG}, {"job_type": "file_extraction"}])
    def test_a_key_of_another_data_set_or_type_is_a_conflict(self, store: Store, other: dict[str, Any]) -> None:
        store.jobs.create([a_job(idempotency_key="k")])

        with pytest.raises(IdempotencyConflict, match="'k'"):
            store.jobs.create([a_job(idempotency_key="k", **other)])

    def test_two_jobs_with_one_key_in_one_call_are_one_job(self, store: Store) -> None:
        first, second = a_job(idempotency_key="k"), a_job(idempotency_key="k")

        assert store.jobs.create([first, second]) == [first.job_id, first.job_id]

    def test_two_jobs_that_share_a_key_and_no_data_set_in_one_call_are_a_conflict(self, store: Store) -> None:
        with pytest.raises(IdempotencyConflict, match="'k'"):
            store.jobs.create([a_job(idempotency_key="k"), a_job(LUNG, idempotency_key="k")])

    def test_a_full_line_takes_no_more(self, store: Store) -> None:
        later = datetime.now(UTC) + timedelta(days=1)
        store.jobs.create([a_job(), a_job(), a_job(run_at=later)], max_pending_per_dataset=3)

        with pytest.raises(QueueFull, match=HEART):
            store.jobs.create([a_job()], max_pending_per_dataset=3)
        store.jobs.create([a_job(LUNG)], max_pending_per_dataset=3)

    def test_creators_that_race_for_the_last_places_of_a_line_never_fill_it_beyond_its_cap(
        self, store: Store
    ) -> None:
        store.jobs.create([a_job()], max_pending_per_dataset=3)
        together = threading.Barrier(6)

        def create(_: int) -> bool:
            together.wait()
            try:
                store.jobs.create([a_job()], max_pending_per_dataset=3)
            except QueueFull:
                return False
            return True

        with ThreadPoolExecutor(6) as pool:
            admitted = list(pool.map(create, range(6)))

        assert sum(admitted) == 2
        assert len(store.jobs.find(dataset_uuid=HEART)) == 3

    def test_jobs_that_are_refused_or_known_take_no_room_in_a_line(self, store: Store) -> None:
        store.jobs.create([a_job()], max_pending_per_dataset=1)
        with pytest.raises(QueueFull, match=HEART):
            store.jobs.create([a_job(LUNG), a_job()], max_pending_per_dataset=1)

        store.jobs.create([a_job(LUNG, idempotency_key="k")], max_pending_per_dataset=1)
        store.jobs.create([a_job(LUNG, idempotency_key="k")], max_pending_per_dataset=1)

        assert len(store.jobs.find(dataset_uuid=LUNG)) == 1

    def test_ended_jobs_do_not_fill_a_line(self, store: Store) -> None:
        store.jobs.create([a_job()], max_pending_per_dataset=1)
        store.jobs.complete(claimed(store), result=None)

        store.jobs.create([a_job()], max_pending_per_dataset=1)

    # -- the line -----------------------------------------------------------------------------

    def test_jobs_of_one_data_set_run_one_at_a_time(self, store: Store) -> None:
        store.jobs.create([a_job(job_id="first"), a_job(job_id="second"), a_job(LUNG, job_id="other")])

        got = [claim(store, worker) for worker in ("ada", "bob", "eve")]

        assert [job and job.job_id for job in got] == ["first", "other", None]

    def test_jobs_of_one_data_set_run_in_the_order_of_creation_whatever_their_priority(self, store: Store) -> None:
        store.jobs.create([a_job(job_id="first", priority=3), a_job(job_id="second", priority=1)])

        first = claimed(store)
        store.jobs.complete(first, result=None)

        assert (first.job_id, claimed(store).job_id) == ("first", "second")

    def test_a_job_that_waits_for_its_retry_is_not_overtaken(self, store: Store) -> None:
        store.jobs.create([a_job(job_id="first"), a_job(job_id="second")])

        store.jobs.fail(claimed(store), OOPS, retry_after_seconds=60)

        assert claim(store) is None

    @pytest.mark.parametrize("end", ["complete", "fail", "cancel", "acknowledge"])
    def test_the_next_of_the_line_is_claimable_once_its_head_has_ended(self, store: Store, end: str) -> None:
        store.jobs.create([a_job(job_id="first"), a_job(job_id="second")])
        match end:
            case "complete":
                store.jobs.complete(claimed(store), result=None)
            case "fail":
                store.jobs.fail(claimed(store), HOPELESS, retry_after_seconds=0)
            case "cancel":
                store.jobs.cancel("first")
            case "acknowledge":
                job = claimed(store)
                store.jobs.cancel("first")
                store.jobs.acknowledge_cancel(job)

        assert claimed(store).job_id == "second"

    def test_a_cancel_in_the_middle_of_a_line_leaves_the_others(self, store: Store) -> None:
        store.jobs.create([a_job(job_id=name) for name in ("first", "second", "third")])

        store.jobs.cancel("second")
        store.jobs.complete(claimed(store), result=None)

        assert claimed(store).job_id == "third"

    def test_a_job_before_its_time_is_not_given_out_and_holds_nobody_up(self, store: Store) -> None:
        later = datetime.now(UTC) + timedelta(days=1)
        store.jobs.create([a_job(job_id="delayed", run_at=later), a_job(job_id="now")])

        first = claimed(store)

        assert (first.job_id, claim(store)) == ("now", None)
        assert now_of(store, "delayed").waits_for is WaitsFor.TIME

    def test_a_job_is_given_out_once_its_time_has_come(self, store: Store) -> None:
        store.jobs.create([a_job(job_id="soon", run_at=datetime.now(UTC) + timedelta(seconds=0.2))])
        assert claim(store) is None

        assert self._claimed_within(store, 10).job_id == "soon"

    def test_a_delayed_job_joins_its_line_by_age_and_displaces_nobody(self, store: Store) -> None:
        soon = datetime.now(UTC) + timedelta(seconds=0.3)
        store.jobs.create([a_job(job_id="delayed", run_at=soon), a_job(job_id="head"), a_job(job_id="young")])
        running = claimed(store)
        self._until(lambda: claim(store) is None and now_of(store, "delayed").waits_for is WaitsFor.TURN)

        store.jobs.complete(running, result=None)

        assert (running.job_id, claimed(store).job_id) == ("head", "delayed")

    # -- which head first ---------------------------------------------------------------------

    def test_data_sets_take_turns(self, store: Store) -> None:
        store.jobs.create([a_job(job_id=f"heart {n}") for n in range(2)])
        store.jobs.create([a_job(LUNG, job_id=f"lung {n}") for n in range(2)])

        order = []
        while job := claim(store):
            order.append(job.job_id)
            store.jobs.complete(job, result=None)

        assert order == ["heart 0", "lung 0", "heart 1", "lung 1"]

    def test_a_higher_priority_goes_first(self, store: Store) -> None:
        store.jobs.create([a_job(priority=3, job_id="low"), a_job(LUNG, priority=1, job_id="high")])

        assert [claimed(store).job_id, claimed(store).job_id] == ["high", "low"]

    def test_the_order_holds_across_types(self, store: Store) -> None:
        store.jobs.create(
            [a_job(job_type="z_type", job_id="first"), a_job(LUNG, job_type="a_type", job_id="second")]
        )

        assert [claimed(store).job_id, claimed(store).job_id] == ["first", "second"]

    def test_a_claim_gets_only_the_types_it_names(self, store: Store) -> None:
        store.jobs.create(
            [a_job(job_id="conversion"), a_job(LUNG, job_type="file_extraction", job_id="extraction")]
        )

        got = store.jobs.claim("ada", limit=5, job_types=["file_extraction", "unheard_of"], lease_seconds=30)

        assert [job.job_id for job in got] == ["extraction"]

    def test_a_claim_of_no_type_gets_nothing(self, store: Store) -> None:
        store.jobs.create([a_job()])

        assert store.jobs.claim("ada", limit=5, job_types=[], lease_seconds=30) == []

    def test_the_canary_is_given_only_to_a_claim_that_names_it(self, store: Store) -> None:
        store.jobs.create([a_job(job_type=CANARY, job_id="canary")])
        assert claim(store) is None

        got = store.jobs.claim("verify", limit=1, job_types=[CANARY], lease_seconds=30)

        assert [job.job_id for job in got] == ["canary"]

    def test_a_claim_of_many_gets_one_of_each_data_set(self, store: Store) -> None:
        uuids = [str(uuid.uuid4()) for _ in range(5)]
        store.jobs.create([a_job(dataset_uuid) for dataset_uuid in uuids for _ in range(3)])

        got = store.jobs.claim("ada", limit=4, job_types=None, lease_seconds=30)

        assert [job.dataset_uuid for job in got] == uuids[:4]

    # -- looking ------------------------------------------------------------------------------

    def test_jobs_are_listed_in_the_order_of_creation_page_by_page(self, store: Store) -> None:
        ids = store.jobs.create([a_job(HEART if n % 2 else LUNG) for n in range(7)])

        pages, after = [], None
        while page := store.jobs.find(after=after, limit=3):
            pages.append([job.job_id for job in page])
            after = page[-1].job_id

        assert pages == [ids[:3], ids[3:6], ids[6:]]

    def test_jobs_are_found_by_data_set_status_and_type(self, store: Store) -> None:
        heart, lung, other = store.jobs.create([a_job(), a_job(LUNG), a_job(LUNG, job_type="file_extraction")])
        claimed(store)

        assert [job.job_id for job in store.jobs.find(dataset_uuid=LUNG)] == [lung, other]
        assert [job.job_id for job in store.jobs.find(status=JobStatus.RUNNING)] == [heart]
        assert [job.job_id for job in store.jobs.find(job_type="file_extraction")] == [other]
        assert store.jobs.find(dataset_uuid=HEART, status=JobStatus.PENDING) == []

    def test_listing_after_a_job_that_is_gone_is_an_error_and_not_the_end(self, store: Store) -> None:
        with pytest.raises(NotFound, match="gone"):
            store.jobs.find(after="gone")

    def test_the_line_tells_the_running_job_or_the_head_and_what_ended_last(self, store: Store) -> None:
        store.jobs.create([a_job(job_id=name) for name in ("first", "second", "third")])
        assert store.jobs.line(HEART).head == now_of(store, "first")
        job = claimed(store)
        assert store.jobs.line(HEART).running == job
        assert store.jobs.line(HEART).head is None

        store.jobs.complete(job, result=None)

        line = store.jobs.line(HEART)
        assert (line.running, line.head, line.last) == (None, now_of(store, "second"), now_of(store, "first"))

    def test_delayed_jobs_and_deletions_are_no_part_of_the_line(self, store: Store) -> None:
        later = datetime.now(UTC) + timedelta(days=1)
        store.jobs.create([a_job(job_type="dataset_deletion"), a_job(LUNG, run_at=later)])

        for dataset_uuid in (HEART, LUNG):
            line = store.jobs.line(dataset_uuid)
            assert (line.running, line.head, line.last) == (None, None, None)

    def test_the_current_job_is_the_running_one_else_the_head_else_the_newest(self, store: Store) -> None:
        bone = str(uuid.uuid4())
        store.jobs.create([a_job(job_id="runs"), a_job(), a_job(LUNG, job_id="waits"), a_job(LUNG)])
        claimed(store)
        store.jobs.create([a_job(bone, job_id="old"), a_job(bone, job_id="newest")])
        store.jobs.cancel("old")
        store.jobs.cancel("newest")

        current = store.jobs.current([HEART, LUNG, bone, str(uuid.uuid4())])

        assert {dataset_uuid: job.job_id for dataset_uuid, job in current.items()} == {
            HEART: "runs",
            LUNG: "waits",
            bone: "newest",
        }

    def test_data_sets_whose_jobs_changed_are_named(self, store: Store) -> None:
        store.jobs.create([a_job(), a_job(LUNG)])
        job = claimed(store)
        time.sleep(0.01)
        moment = store.clock.now()

        store.jobs.heartbeat(job)
        assert store.jobs.changed_since(moment) == []
        store.jobs.complete(job, result=None)

        assert list(store.jobs.changed_since(moment)) == [job.dataset_uuid]

    def test_the_figures_count_every_job_once(self, store: Store) -> None:
        later = datetime.now(UTC) + timedelta(days=1)
        store.jobs.create([a_job(), a_job(), a_job(LUNG, run_at=later), a_job(str(uuid.uuid4()))])
        store.jobs.complete(claimed(store), result=None)
        claimed(store)

        stats = store.jobs.stats()

        assert stats.by_status == {"pending": 2, "running": 1, "completed": 1, "failed": 0, "cancelled": 0}
        assert stats.waiting == {"nothing": 1, "turn": 0, "time": 1}
        assert list(stats.types) == [CONVERSION]
        assert (stats.types[CONVERSION].pending, stats.types[CONVERSION].running) == (2, 1)
        assert stats.oldest_claimable_seconds is not None
        assert 0 <= stats.oldest_claimable_seconds < 60

    def test_an_empty_queue_has_figures_too(self, store: Store) -> None:
        stats = store.jobs.stats()

        assert set(stats.by_status.values()) == {0}
        assert (stats.types, stats.oldest_claimable_seconds) == ({}, None)
        assert set(stats.waiting.values()) == {0}

    def test_the_figures_tell_the_types_apart(self, store: Store) -> None:
        store.jobs.create([a_job(), a_job(LUNG, job_type="file_extraction"), a_job(str(uuid.uuid4()))])
        store.jobs.fail(claimed(store), HOPELESS, retry_after_seconds=0)
        store.jobs.pause("file_extraction")

        types = store.jobs.stats().types

        assert (types[CONVERSION].paused, types["file_extraction"].paused) == (False, True)
        assert types[CONVERSION].failed == {HOPELESS.type: 1}
        assert types["file_extraction"].waiting == {"nothing": 1, "turn": 0, "time": 0}
        assert types["file_extraction"].failed == {}
        for figures in types.values():
            assert figures.oldest_claimable_seconds is not None

    def test_failed_jobs_are_found_by_their_error(self, store: Store) -> None:
        store.jobs.create([a_job(job_id="tiff"), a_job(LUNG, job_id="disk", max_attempts=1), a_job(job_id="waits")])
        store.jobs.fail(claimed(store), HOPELESS, retry_after_seconds=0)
        store.jobs.fail(claimed(store), OOPS, retry_after_seconds=0)

        def found(**asked: Any) -> list[str]:
            return [job.job_id for job in store.jobs.find(status=JobStatus.FAILED, **asked)]

        assert found() == ["tiff", "disk"]
        assert found(error="NO TIFF") == ["tiff"]
        assert found(error="oserror") == ["disk"]
        assert found(error="it is no tiff", job_type="file_extraction") == []
        assert found(error="100%") == []
        assert found(after="tiff") == ["disk"]

    # -- paused types -------------------------------------------------------------------------

    def test_a_paused_type_is_not_handed_out_and_others_are(self, store: Store) -> None:
        store.jobs.create([a_job(job_id="paused"), a_job(LUNG, job_id="goes on", job_type="file_extraction")])

        store.jobs.pause(CONVERSION)
        store.jobs.pause(CONVERSION)

        assert list(store.jobs.paused()) == [CONVERSION]
        assert claimed(store).job_id == "goes on"
        assert claim(store) is None
        assert store.jobs.claim("ada", limit=1, job_types=[CONVERSION], lease_seconds=30) == []

    def test_what_runs_goes_on_and_ends_while_its_type_is_paused(self, store: Store) -> None:
        store.jobs.create([a_job(job_id="runs"), a_job(job_id="next")])
        job = claimed(store)

        store.jobs.pause(CONVERSION)
        store.jobs.heartbeat(job)

        assert store.jobs.complete(job, result=None, claim_next=True) is None
        assert now_of(store, "runs").status is JobStatus.COMPLETED
        assert now_of(store, "next").waits_for is WaitsFor.NOTHING

    def test_a_type_can_be_paused_before_its_first_job(self, store: Store) -> None:
        store.jobs.pause(CONVERSION)
        store.jobs.create([a_job()])

        assert claim(store) is None
        assert store.jobs.stats().types[CONVERSION].paused

    def test_a_resumed_type_is_handed_out_in_order(self, store: Store) -> None:
        store.jobs.resume(CONVERSION)
        store.jobs.pause(CONVERSION)
        store.jobs.create([a_job(job_id="first"), a_job(LUNG, job_id="second")])

        store.jobs.resume(CONVERSION)
        store.jobs.resume(CONVERSION)

        assert list(store.jobs.paused()) == []
        assert [claimed(store).job_id, claimed(store).job_id] == ["first", "second"]

    def test_what_claims_look_at_can_be_listed(self, store: Store) -> None:
        store.jobs.create([a_job(job_id="runs"), a_job(job_id="turn"), a_job(LUNG, job_id="ready")])
        claimed(store)

        assert list(store.jobs.claimable()) == ["ready"]
