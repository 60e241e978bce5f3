"""What every job store does with attempts: leases, tokens, ends, cancel and retry."""

from __future__ import annotations

import uuid

import pytest

from scientistcloud.errors import (
    AlreadyFinished,
    Cancelled,
    InvalidTransition,
    LeaseLost,
    NotFound,
)
from scientistcloud.ports import Store
from scientistcloud.records import Job, JobStatus, Progress, WaitsFor
from scientistcloud.testing.jobs import (
    HOPELESS,
    LUNG,
    OOPS,
    JobStoreFixtures,
    a_job,
    claim,
    claimed,
    now_of,
)


class AttemptContract(JobStoreFixtures):
    """Jobs in the hands of workers."""

    # -- attempts -----------------------------------------------------------------------------

    def test_a_claimed_job_says_who_has_it_and_since_when(self, store: Store) -> None:
        store.jobs.create([a_job()])

        job = claimed(store, "ada")

        assert (job.status, job.worker_id, job.attempt, job.lease_seconds) == (JobStatus.RUNNING, "ada", 1, 30)
        assert job.started_at is not None
        assert job.heartbeat_at is not None
        assert now_of(store, job) == job

    def test_the_token_grows_over_all_jobs_of_a_data_set(self, store: Store) -> None:
        store.jobs.create([a_job(), a_job()])
        tokens = []
        for _ in range(2):
            job = claimed(store)
            tokens.append(job.token)
            store.jobs.complete(job, result=None)

        assert tokens[0] >= 1
        assert tokens[1] > tokens[0]

    def test_a_heartbeat_carries_progress(self, store: Store) -> None:
        store.jobs.create([a_job()])
        job = claimed(store)

        store.jobs.heartbeat(job, progress=Progress(fraction=0.4, step="level 2 of 5", message="…"))
        store.jobs.heartbeat(job)

        assert now_of(store, job).progress == Progress(fraction=0.4, step="level 2 of 5", message="…")

    def test_a_completed_job_keeps_its_result_and_its_history(self, store: Store) -> None:
        store.jobs.create([a_job()])
        job = claimed(store)

        assert store.jobs.complete(job, result={"shape": [1, 2]}) is None

        done = now_of(store, job)
        assert (done.status, done.result, done.head) == (JobStatus.COMPLETED, {"shape": [1, 2]}, None)
        assert done.finished_at is not None
        assert [(each.number, each.worker_id, each.outcome) for each in done.history] == [(1, "ada", "completed")]

    def test_completing_can_claim_the_next(self, store: Store) -> None:
        store.jobs.create([a_job(job_id="first"), a_job(job_id="second")])

        following = store.jobs.complete(claimed(store), result=None, claim_next=True)

        assert following is not None
        assert (following.job_id, following.status, following.worker_id) == ("second", JobStatus.RUNNING, "ada")

    def test_many_complete_at_once_and_as_many_are_claimed(self, store: Store) -> None:
        ids = store.jobs.create([a_job(str(uuid.uuid4())) for _ in range(5)])
        first = store.jobs.claim("ada", limit=2, job_types=None, lease_seconds=30)

        following = store.jobs.complete_many([(job, {"of": job.job_id}) for job in first], claim_next=True)

        assert [job.job_id for job in (*first, *following)] == ids[:4]
        assert {(job.status, job.worker_id) for job in following} == {(JobStatus.RUNNING, "ada")}
        for job in first:
            ended = now_of(store, job)
            assert (ended.status, ended.result) == (JobStatus.COMPLETED, {"of": job.job_id})

    def test_the_lost_ones_among_many_change_nothing_and_the_others_complete(self, store: Store) -> None:
        store.jobs.create([a_job(), a_job(LUNG), a_job(str(uuid.uuid4()))])
        kept, lost = store.jobs.claim("ada", limit=2, job_types=None, lease_seconds=30)
        self.age(store, lost, 31)
        store.jobs.recover()

        with pytest.raises(LeaseLost, match=lost.job_id) as refused:
            store.jobs.complete_many([(lost, None), (kept, None)], claim_next=True)

        assert kept.job_id not in str(refused.value)
        assert now_of(store, kept).status is JobStatus.COMPLETED
        assert now_of(store, lost).status is JobStatus.PENDING
        assert store.jobs.find(status=JobStatus.RUNNING) == []

    def test_many_completed_twice_succeed_again(self, store: Store) -> None:
        store.jobs.create([a_job(), a_job(LUNG)])
        ends = [(job, None) for job in store.jobs.claim("ada", limit=2, job_types=None, lease_seconds=30)]

        store.jobs.complete_many(ends)
        before = [now_of(store, job) for job, _ in ends]
        store.jobs.complete_many(ends)

        assert [now_of(store, job) for job, _ in ends] == before

    def test_a_failure_that_may_pass_is_tried_again_after_the_pause(self, store: Store) -> None:
        store.jobs.create([a_job()])

        job = store.jobs.fail(claimed(store), OOPS, retry_after_seconds=0.1)

        assert (job.status, job.waits_for, job.error) == (JobStatus.PENDING, WaitsFor.TIME, OOPS)
        again = self._claimed_within(store, 10)
        assert (again.job_id, again.attempt) == (job.job_id, 2)

    def test_a_failure_for_good_is_not_tried_again(self, store: Store) -> None:
        store.jobs.create([a_job()])

        job = store.jobs.fail(claimed(store), HOPELESS, retry_after_seconds=0)

        assert (job.status, job.error, claim(store)) == (JobStatus.FAILED, HOPELESS, None)

    def test_the_last_try_that_fails_fails_the_job(self, store: Store) -> None:
        store.jobs.create([a_job(max_attempts=2)])
        store.jobs.fail(claimed(store), OOPS, retry_after_seconds=0)

        job = store.jobs.fail(self._claimed_within(store, 10), OOPS, retry_after_seconds=0)

        assert (job.status, job.attempt) == (JobStatus.FAILED, 2)
        assert [each.outcome for each in job.history] == ["failed", "failed"]

    def test_a_released_job_is_given_out_again_at_once_and_its_try_does_not_count(self, store: Store) -> None:
        store.jobs.create([a_job(max_attempts=1)])

        store.jobs.release(claimed(store, "ada"))
        again = claimed(store, "bob")

        assert (again.attempt, again.worker_id) == (1, "bob")
        assert [each.outcome for each in again.history] == ["released"]

    def test_history_keeps_the_last_ten_attempts(self, store: Store) -> None:
        store.jobs.create([a_job()])
        for n in range(12):
            store.jobs.release(claimed(store, f"worker {n}"))

        workers = [each.worker_id for each in claimed(store).history]

        assert workers == [f"worker {n}" for n in range(2, 12)]

    # -- lost leases --------------------------------------------------------------------------

    def test_a_job_whose_lease_ran_out_is_given_to_another(self, store: Store) -> None:
        store.jobs.create([a_job()])
        lost = claimed(store, "ada")
        self.age(store, lost, 31)
        told: list[Job] = []
        store.jobs.on_loss(told.append)

        again = self._claimed_within(store, 10, "bob")

        assert [(job.job_id, job.worker_id, job.token) for job in told] == [(lost.job_id, "ada", lost.token)]
        assert (again.job_id, again.worker_id, again.attempt) == (lost.job_id, "bob", 2)
        assert again.token > lost.token
        assert [each.outcome for each in again.history] == ["lost"]

    def test_a_lease_that_was_renewed_is_not_taken_back(self, store: Store) -> None:
        store.jobs.create([a_job()])
        job = claimed(store)
        self.age(store, job, 31)

        store.jobs.heartbeat(job)

        assert claim(store, "bob") is None
        assert store.jobs.recover() == 0

    @pytest.mark.parametrize("after", ["taken back", "given to another", "ended by another"])
    def test_a_worker_that_lost_its_lease_changes_nothing(self, store: Store, after: str) -> None:
        store.jobs.create([a_job()])
        lost = claimed(store, "ada")
        self.age(store, lost, 31)
        store.jobs.recover()
        if after != "taken back":
            again = self._claimed_within(store, 10, "bob")
            if after == "ended by another":
                store.jobs.complete(again, result={"by": "bob"})
        before = now_of(store, lost)

        for call in ("heartbeat", "complete", "fail", "release", "acknowledge_cancel"):
            with pytest.raises(LeaseLost, match=lost.job_id):
                self._say(store, call, lost)

        assert now_of(store, lost) == before

    def test_a_job_that_loses_every_worker_fails_and_says_so(self, store: Store) -> None:
        store.jobs.create([a_job(max_attempts=2), a_job(job_id="next")])
        told: list[Job] = []
        store.jobs.on_loss(told.append)
        for _ in range(2):
            self.age(store, self._claimed_within(store, 10), 31)
            store.jobs.recover()

        job = store.jobs.find(limit=1)[0]

        assert job.status is JobStatus.FAILED
        assert job.error is not None
        assert "the worker was lost 2 times" in job.error.message
        assert [lost.attempt for lost in told] == [1, 2]
        assert claimed(store).job_id == "next"

    def test_a_reap_that_ends_a_job_draws_a_token_for_it(self, store: Store) -> None:
        store.jobs.create([a_job(max_attempts=1)])
        lost = claimed(store)
        self.age(store, lost, 31)

        store.jobs.recover()

        assert now_of(store, lost).token > lost.token

    def test_a_lost_job_whose_cancel_was_asked_for_is_cancelled(self, store: Store) -> None:
        store.jobs.create([a_job(job_id="one")])
        self.age(store, claimed(store), 31)
        store.jobs.cancel("one")

        store.jobs.recover()

        assert now_of(store, "one").status is JobStatus.CANCELLED

    def test_the_jobs_of_a_dead_worker_are_taken_back_at_once(self, store: Store) -> None:
        store.jobs.create([a_job(), a_job(LUNG)])
        dead, alive = claimed(store, "dead"), claimed(store, "alive")

        store.jobs.recover(dead=["dead"])

        assert now_of(store, dead).status is JobStatus.PENDING
        assert now_of(store, alive).status is JobStatus.RUNNING

    # -- said twice ---------------------------------------------------------------------------

    @pytest.mark.parametrize("call", ["complete", "fail", "release"])
    def test_what_is_said_twice_succeeds_again_and_changes_nothing(self, store: Store, call: str) -> None:
        store.jobs.create([a_job()])
        job = claimed(store)
        self._say(store, call, job)
        before = now_of(store, job)

        self._say(store, call, job)

        assert now_of(store, job) == before

    def test_an_acknowledged_cancel_said_twice_succeeds_again(self, store: Store) -> None:
        store.jobs.create([a_job()])
        job = claimed(store)
        store.jobs.cancel(job.job_id)
        first = store.jobs.acknowledge_cancel(job)

        assert store.jobs.acknowledge_cancel(job) == first

    # -- cancel and retry ---------------------------------------------------------------------

    def test_a_pending_job_is_cancelled_at_once(self, store: Store) -> None:
        store.jobs.create([a_job(job_id="one")])

        job = store.jobs.cancel("one")

        assert (job.status, job.head, job.waits_for) == (JobStatus.CANCELLED, None, None)
        assert job.finished_at is not None
        assert claim(store) is None

    def test_a_running_job_is_asked_to_end_and_acknowledges(self, store: Store) -> None:
        store.jobs.create([a_job()])
        job = claimed(store)

        asked = store.jobs.cancel(job.job_id)

        assert (asked.status, asked.cancel_requested) == (JobStatus.RUNNING, True)
        with pytest.raises(Cancelled):
            store.jobs.heartbeat(job)
        assert store.jobs.acknowledge_cancel(job).status is JobStatus.CANCELLED

    @pytest.mark.parametrize("call", ["fail", "release"])
    def test_a_job_whose_cancel_was_asked_for_does_not_go_back(self, store: Store, call: str) -> None:
        store.jobs.create([a_job()])
        job = claimed(store)
        store.jobs.cancel(job.job_id)

        self._say(store, call, job)

        assert now_of(store, job).status is JobStatus.CANCELLED

    def test_a_completion_that_comes_before_the_acknowledgement_wins(self, store: Store) -> None:
        store.jobs.create([a_job()])
        job = claimed(store)
        store.jobs.cancel(job.job_id)

        store.jobs.complete(job, result={"done": True})

        assert now_of(store, job).status is JobStatus.COMPLETED

    def test_an_ended_job_cannot_be_cancelled(self, store: Store) -> None:
        store.jobs.create([a_job()])
        job = claimed(store)
        store.jobs.complete(job, result=None)

        with pytest.raises(AlreadyFinished, match="completed"):
            store.jobs.cancel(job.job_id)

    @pytest.mark.parametrize("call", ["cancel", "retry"])
    def test_a_job_that_is_not_there_is_not_found(self, store: Store, call: str) -> None:
        with pytest.raises(NotFound, match="nobody"):
            getattr(store.jobs, call)("nobody")

    def test_a_retry_puts_a_failed_job_last_in_its_line_with_fresh_tries(self, store: Store) -> None:
        store.jobs.create([a_job(job_id="failed", max_attempts=1)])
        store.jobs.fail(claimed(store), OOPS, retry_after_seconds=0)
        store.jobs.create([a_job(job_id="head"), a_job(job_id="behind")])

        store.jobs.retry("failed")

        order = []
        while job := claim(store):
            order.append((job.job_id, job.attempt, len(job.history)))
            store.jobs.complete(job, result=None)
        assert order == [("head", 1, 0), ("behind", 1, 0), ("failed", 1, 1)]

    def test_a_retried_job_has_none_of_its_old_end(self, store: Store) -> None:
        store.jobs.create([a_job(job_id="one")])
        store.jobs.cancel("one")

        job = store.jobs.retry("one")

        assert (job.status, job.waits_for, job.finished_at) == (JobStatus.PENDING, WaitsFor.NOTHING, None)
        assert (job.cancel_requested, job.error, job.attempt) == (False, None, 0)

    def test_only_what_failed_or_was_cancelled_is_retried(self, store: Store) -> None:
        store.jobs.create([a_job(job_id="one")])
        with pytest.raises(InvalidTransition, match="pending"):
            store.jobs.retry("one")
        job = claimed(store)
        with pytest.raises(InvalidTransition, match="running"):
            store.jobs.retry("one")
        store.jobs.complete(job, result=None)

        with pytest.raises(AlreadyFinished, match="completed"):
            store.jobs.retry("one")
