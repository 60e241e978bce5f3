"""The life of a job: pure, no clock, no I/O.

::

                     create
        ┌───────────────┼──────────────────────────┐
        │ line free     │ line taken               │ not due yet
        ▼               ▼                          ▼
     pending         pending                    pending
     nothing <─────── turn <────────Due───────── time
     (head)  Promoted
      │ ▲ ▲
      │ │ └──Due── pending, time (head, pauses) <─┐
      │ └─Released─────┐                          │
      │Claimed         │        tries left        │
      └──────────> running ───Failed, Lost────────┤
                    │ │                           │ permanent, or tries used up
      Completed     │ │ cancel asked, then        └──────────────> failed ───┐
    completed <─────┘ │ acknowledged, failed,                                │ Retried: a new place
                      │ released or lost                                     │ in line, fresh tries
                      └────────────────────────────────────────> cancelled ──┤
     pending ──CancelAsked──────────────────────────────────────────^        └──> pending

The head of a line stays head through running, pauses and releases, and gives it up only by ending; then the next
that waits for its turn is promoted. What a worker says carries the token of its claim: a smaller one is refused
with `LeaseLost`, and the same thing said twice (the first answer was lost) changes nothing and succeeds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, assert_never

from scientistcloud.errors import AlreadyFinished, InvalidTransition, LeaseLost
from scientistcloud.records import Attempt, Job, JobError, JobStatus, Json, NewJob, Progress, WaitsFor

PRIORITY_STEP_SECONDS = 600.0
"""How much later a job of the next lower priority counts as having come."""

HISTORY_LENGTH = 10

Changes = dict[str, Any]
"""Fields of a `Job` and what they become."""

CANARY = "verify_canary"
"""The job type of checks: only a claim that names it gets one."""


# -- what happens in the line --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Promoted:
    """The head before it has ended, and this is the oldest that waits for its turn."""


@dataclass(frozen=True, slots=True)
class Due:
    """Its `run_at` has come. `line_free`: the data set has no head."""

    line_free: bool


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Somebody wants the job to end."""


@dataclass(frozen=True, slots=True)
class Retried:
    """Somebody wants a job that failed or was cancelled to run again, at the place `seq`."""

    seq: int
    line_free: bool


# -- what workers do -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claimed:
    """A worker takes the job, with a `token` greater than any before."""

    worker_id: str
    token: int
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class Beat:
    """The worker is alive; `progress` None: nothing new."""

    token: int
    progress: Progress | None


@dataclass(frozen=True, slots=True)
class Completed:
    """The work is done."""

    token: int
    result: Json | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt did not succeed; after the pause another may."""

    token: int
    error: JobError
    retry_after_seconds: float


@dataclass(frozen=True, slots=True)
class Released:
    """The worker gives the job back unharmed (it drains)."""

    token: int


@dataclass(frozen=True, slots=True)
class CancelAcknowledged:
    """The worker has stopped because somebody asked for it."""

    token: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The lease ran out, or the worker is known to be dead.

    `next_token`: a number greater than any before; the job takes it if this ends it, so that the lost worker's is
    too small wherever it may still write.
    """

    retry_after_seconds: float
    next_token: int


Event = (
    Promoted
    | Due
    | CancelAsked
    | Retried
    | Claimed
    | Beat
    | Completed
    | Failed
    | Released
    | CancelAcknowledged
    | Lost
)


def created(new: NewJob, *, seq: int, line_free: bool, now: datetime) -> Job:
    """The record of a new job at the place `seq` of its line."""
    run_at = new.run_at or now
    delayed = run_at > now
    heads = line_free and not delayed
    return Job(
        job_id=new.job_id,
        dataset_uuid=new.dataset_uuid,
        job_type=new.job_type,
        status=JobStatus.PENDING,
        parameters=new.parameters,
        seq=seq,
        head=new.dataset_uuid if heads else None,
        waits_for=WaitsFor.TIME if delayed else WaitsFor.NOTHING if heads else WaitsFor.TURN,
        priority=new.priority,
        rank=rank(max(run_at, now), new.priority) if delayed or heads else None,
        run_at=run_at,
        attempt=0,
        max_attempts=new.max_attempts,
        token=0,
        worker_id=None,
        lease_seconds=None,
        heartbeat_at=None,
        cancel_requested=False,
        timeout_seconds=new.timeout_seconds,
        idempotency_key=new.idempotency_key,
        progress=_NO_PROGRESS,
        result=None,
        error=None,
        history=(),
        created_at=now,
        updated_at=now,
        started_at=None,
        finished_at=None,
    )


def rank(claimable_at: datetime, priority: int) -> float:
    """Which head goes first, in POSIX seconds: who became claimable first, low priorities later."""
    return claimable_at.timestamp() + PRIORITY_STEP_SECONDS * (priority - 1)


def after(job: Job, event: Event, now: datetime) -> Job:
    """`job` after `event`; the same object where the event was told twice. Raises what `changes` does."""
    changed = changes(job, event, now)
    return replace(job, **changed) if changed else job


def changes(job: Job, event: Event, now: datetime) -> Changes:
    """What `event` makes of `job`'s fields, some perhaps as they were; nothing where the event was told twice.

    Raises `InvalidTransition`, `AlreadyFinished` when somebody asks for what the state does not allow, and
    `LeaseLost` when a worker speaks whose token is not the job's, or whose attempt has ended otherwise.
    """
    match event:
        case Promoted():
            _demand(job, job.waits_for is WaitsFor.TURN, "does not wait for its turn")
            return _as_head(job, since=now, now=now)
        case Due(line_free):
            _demand(job, job.waits_for is WaitsFor.TIME and job.run_at <= now, "is not due")
            if job.head is None and not line_free:
                return {"waits_for": WaitsFor.TURN, "rank": None, "updated_at": now}
            return _as_head(job, since=job.run_at, now=now)
        case CancelAsked():
            if job.status.ended:
                raise AlreadyFinished(f"job {job.job_id} is {job.status} already; an end is never changed")
            if job.status is JobStatus.RUNNING:
                return {} if job.cancel_requested else {"cancel_requested": True, "updated_at": now}
            return _end(JobStatus.CANCELLED, now)
        case Retried(seq, line_free):
            return _retried(job, seq=seq, line_free=line_free, now=now)
        case Claimed(worker_id, token, lease_seconds):
            _demand(job, job.waits_for is WaitsFor.NOTHING and token > job.token, "cannot be claimed")
            return {
                "status": JobStatus.RUNNING,
                "waits_for": None,
                "rank": None,
                "attempt": job.attempt + 1,
                "token": token,
                "worker_id": worker_id,
                "lease_seconds": lease_seconds,
                "heartbeat_at": now,
                "progress": _NO_PROGRESS,
                "started_at": now,
                "updated_at": now,
            }
        case Beat(token, progress):
            _hold(job, token, ())
            return {"heartbeat_at": now, "progress": job.progress if progress is None else progress}
        case Completed(token, result):
            # It ends so although its cancel was asked for: what came first wins.
            if not _hold(job, token, ("completed",)):
                return {}
            return _end(JobStatus.COMPLETED, now) | {
                "result": result,
                "error": None,
                "progress": replace(job.progress, fraction=1.0),
                "history": _history(job, "completed", now),
            }
        case Failed(token, error, retry_after_seconds):
            if not _hold(job, token, ("failed", "cancelled")):
                return {}
            if job.cancel_requested:
                return _cancelled(job, now)
            return _failed(job, "failed", error, retry_after_seconds=retry_after_seconds, now=now)
        case Released(token):
            if not _hold(job, token, ("released", "cancelled")):
                return {}
            if job.cancel_requested:
                return _cancelled(job, now)
            back = {"attempt": job.attempt - 1, "history": _history(job, "released", now)}
            return back | _WITHOUT_WORKER | _as_head(job, since=now, now=now)
        case CancelAcknowledged(token):
            return _cancelled(job, now) if _hold(job, token, ("cancelled",)) else {}
        case Lost(retry_after_seconds, next_token):
            return _lost(job, retry_after_seconds=retry_after_seconds, next_token=next_token, now=now)
        case _:
            assert_never(event)


# -- details -------------------------------------------------------------------------------------


def _hold(job: Job, token: int, already: tuple[str, ...]) -> bool:
    """Whether the attempt with `token` runs; False if it ended by one of the outcomes `already`."""
    if job.token == token and job.status is JobStatus.RUNNING:
        return True
    if job.token == token and job.history and job.history[-1].outcome in already:
        return False
    raise LeaseLost(
        f"job {job.job_id} is no longer this worker's (its token is {token}, the job's {job.token}, {job.status}); "
        "stop and change nothing"
    )


def _retried(job: Job, *, seq: int, line_free: bool, now: datetime) -> Changes:
    if job.status is JobStatus.COMPLETED:
        raise AlreadyFinished(f"job {job.job_id} is completed; create a new job to do the work again")
    _demand(job, job.status.ended, f"is {job.status} and needs no retry; wait for it, or cancel it first")
    last_in_line = {"status": JobStatus.PENDING, "waits_for": WaitsFor.TURN, "updated_at": now}
    return {
        "seq": seq,
        "run_at": now,
        "attempt": 0,
        "cancel_requested": False,
        "result": None,
        "error": None,
        "finished_at": None,
        **_WITHOUT_WORKER,
        **(_as_head(job, since=now, now=now) if line_free else last_in_line),
    }


def _lost(job: Job, *, retry_after_seconds: float, next_token: int, now: datetime) -> Changes:
    _demand(job, job.status is JobStatus.RUNNING, "does not run")
    if job.cancel_requested:
        return _cancelled(job, now, outcome="lost") | {"token": next_token}
    times = 1 + sum(attempt.outcome == "lost" for attempt in job.history)
    error = JobError(
        type="WorkerLost",
        message=f"the worker was lost {times} time{'s' if times > 1 else ''}; see what ended {job.worker_id}, "
        "then retry the job",
    )
    lost = _failed(job, "lost", error, retry_after_seconds=retry_after_seconds, now=now)
    return lost | {"token": next_token} if lost["status"].ended else lost


def _failed(job: Job, outcome: str, error: JobError, *, retry_after_seconds: float, now: datetime) -> Changes:
    told = {"error": error, "history": _history(job, outcome, now, error)}
    if error.permanent or job.attempt >= job.max_attempts:
        return _end(JobStatus.FAILED, now) | told
    run_at = now + timedelta(seconds=retry_after_seconds)
    return {
        "status": JobStatus.PENDING,
        "waits_for": WaitsFor.TIME,
        "rank": rank(run_at, job.priority),
        "run_at": run_at,
        "updated_at": now,
        **told,
        **_WITHOUT_WORKER,
    }


def _cancelled(job: Job, now: datetime, *, outcome: str = "cancelled") -> Changes:
    return _end(JobStatus.CANCELLED, now) | {"history": _history(job, outcome, now)}


def _as_head(job: Job, *, since: datetime, now: datetime) -> Changes:
    return {
        "status": JobStatus.PENDING,
        "head": job.dataset_uuid,
        "waits_for": WaitsFor.NOTHING,
        "rank": rank(since, job.priority),
        "updated_at": now,
    }


def _end(status: JobStatus, now: datetime) -> Changes:
    return {
        "status": status,
        "head": None,
        "waits_for": None,
        "rank": None,
        "updated_at": now,
        "finished_at": now,
    }


_NO_PROGRESS = Progress()
_WITHOUT_WORKER: Changes = {
    "worker_id": None,
    "lease_seconds": None,
    "heartbeat_at": None,
    "started_at": None,
    "progress": _NO_PROGRESS,
}


def _history(job: Job, outcome: str, now: datetime, error: JobError | None = None) -> tuple[Attempt, ...]:
    attempt = Attempt(
        number=job.attempt,
        worker_id=job.worker_id or "",
        started_at=job.started_at or now,
        finished_at=now,
        outcome=outcome,
        error=error,
    )
    return (*job.history, attempt)[-HISTORY_LENGTH:]


def _demand(job: Job, allowed: bool, otherwise: str) -> None:
    if not allowed:
        raise InvalidTransition(f"job {job.job_id} {otherwise}")
