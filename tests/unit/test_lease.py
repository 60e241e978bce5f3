"""How long an attempt may believe that its job is its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from scientistcloud.errors import Cancelled, LeaseLost, Unavailable
from scientistcloud.jobs import lifecycle
from scientistcloud.records import Job, NewJob, Progress
from scientistcloud.service.failures import Failed
from scientistcloud.service.lease import Cut, Lease
from scientistcloud.service.workplace import Workplace

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LEASE_SECONDS = 30.0


@dataclass
class FarAway:
    """A queue whose answers take `answer_seconds`, or say `error`; and the clock of whoever asks."""

    seconds: float = 1000.0
    answer_seconds: float = 0.0
    error: Exception | None = None
    cancelled: bool = False
    asked: int = 0

    def monotonic(self) -> float:
        return self.seconds

    def heartbeat(self, job: Job, *, progress: Progress | None) -> Job:
        self.asked += 1
        self.seconds += self.answer_seconds
        if self.error is not None:
            raise self.error
        return replace(job, progress=progress or job.progress)

    def get(self, job_id: str) -> Job:
        return replace(a_job(), cancel_requested=self.cancelled)


def a_job() -> Job:
    new = NewJob(job_id="j", dataset_uuid="d", job_type="t", parameters={})
    return lifecycle.created(new, seq=1, line_free=True, now=NOON)


def a_lease(far: FarAway, *, stall_seconds: float = 1e6) -> Lease:
    place = SimpleNamespace(
        store=SimpleNamespace(clock=far, jobs=far),
        queue=far,
        lease_seconds=LEASE_SECONDS,
        stall_seconds=stall_seconds,
    )
    lease = Lease(cast(Workplace, cast(Any, place)), a_job(), warn=lambda _event, _failed: None)
    lease.begin()
    return lease


def test_it_counts_from_when_the_last_good_heartbeat_was_sent_and_not_from_its_answer() -> None:
    far = FarAway()
    lease = a_lease(far)
    far.seconds += 11
    far.answer_seconds = 12
    lease.pulse()
    far.seconds += LEASE_SECONDS - 12
    lease.look()

    far.seconds += 0.1

    with pytest.raises(LeaseLost):
        lease.look()


def test_it_is_renewed_at_a_third_of_it_and_not_before() -> None:
    far = FarAway()
    lease = a_lease(far)
    for _ in range(9):
        far.seconds += 1
        lease.look(Progress())
        lease.pulse()
    assert far.asked == 1

    far.seconds += 1
    lease.pulse()

    assert far.asked == 2


def test_progress_goes_along_four_times_a_second_at_most() -> None:
    far = FarAway()
    lease = a_lease(far)

    for step in range(100):
        far.seconds += 0.02
        lease.look(Progress(fraction=step / 100))
        lease.pulse()

    assert 7 <= far.asked - 1 <= 8


def test_an_outage_is_survived_for_a_lease_and_no_longer() -> None:
    far = FarAway()
    lease = a_lease(far)
    far.error = Unavailable("the database does not answer")
    for _ in range(int(LEASE_SECONDS)):
        far.seconds += 1
        lease.pulse()
        lease.look()

    far.seconds += 0.1

    with pytest.raises(LeaseLost):
        lease.look()


@pytest.mark.parametrize(("said", "raised"), [(LeaseLost("another's"), LeaseLost), (Cancelled("asked"), Cancelled)])
def test_what_a_heartbeat_is_told_ends_the_attempt(said: Exception, raised: type[Exception]) -> None:
    far = FarAway()
    lease = a_lease(far)
    far.error = said
    far.seconds += LEASE_SECONDS / 3
    lease.pulse()

    with pytest.raises(raised):
        lease.look()


def test_a_cancel_is_noticed_between_two_heartbeats() -> None:
    far = FarAway()
    lease = a_lease(far)
    far.cancelled = True
    far.seconds += 1.1
    lease.pulse()

    with pytest.raises(Cancelled):
        lease.look()


def test_a_cut_ends_it() -> None:
    lease = a_lease(FarAway())
    lease.cut()

    with pytest.raises(Cut):
        lease.look()


def test_work_that_stands_still_is_ended() -> None:
    far = FarAway()
    lease = a_lease(far, stall_seconds=5)
    far.seconds += 4
    lease.look(Progress(fraction=0.5, step="level 1"))
    far.seconds += 5
    lease.look(Progress(fraction=0.5, step="level 1"))

    far.seconds += 0.1

    with pytest.raises(Failed, match="stood still at 'level 1' for 5 s"):
        lease.look(Progress(fraction=0.5, step="level 1"))
