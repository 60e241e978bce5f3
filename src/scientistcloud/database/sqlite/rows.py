"""Rows as records and back: the one place that knows how a value lies in a column."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from operator import attrgetter
from typing import Any

from scientistcloud.errors import IncompatibleInstallation
from scientistcloud.records import (
    Attempt,
    ConversionTarget,
    Dataset,
    DatasetStatus,
    Job,
    JobError,
    JobStatus,
    Progress,
    WaitsFor,
    Wanted,
)

Row = tuple[Any, ...]

JOB_NAMES = (
    "job_id", "dataset_uuid", "job_type", "status", "parameters", "seq", "head", "waits_for", "priority", "rank",
    "run_at", "attempt", "max_attempts", "token", "worker_id", "lease_seconds", "heartbeat_at", "cancel_requested",
    "timeout_seconds", "idempotency_key", "progress", "result", "error", "history", "created_at", "updated_at",
    "started_at", "finished_at",
)  # fmt: skip
JOB_COLUMNS = ", ".join(JOB_NAMES)

TARGET_NAMES = (
    "uuid", "sensor", "status", "error", "forms", "revision", "wanted", "token", "version", "closed_at",
    "deleted_at", "place", "notice", "keywords",
)  # fmt: skip
TARGET_COLUMNS = ", ".join(TARGET_NAMES)

DATASET_NAMES = (
    *TARGET_NAMES, "user", "name", "size_bytes", "tags", "description", "public", "created_at", "updated_at",
)  # fmt: skip
DATASET_COLUMNS = ", ".join(DATASET_NAMES)

_NO_PROGRESS = Progress()
_STATUSES = {str(each): each for each in JobStatus}
_REASONS: dict[str | None, WaitsFor | None] = {None: None} | {str(each): each for each in WaitsFor}
# Made once: `json.loads` looks for its options and for a byte order mark at each call.
_json = json.JSONDecoder().decode
_EMPTY = "[]"


# -- from the database ---------------------------------------------------------------------------


def job_of(row: Row) -> Job:
    """A row of `JOB_COLUMNS` as a record."""
    (
        job_id, dataset_uuid, job_type, status, parameters, seq, head, waits_for, priority, rank,
        run_at, attempt, max_attempts, token, worker_id, lease_seconds, heartbeat_at, cancel_requested,
        timeout_seconds, idempotency_key, progress, result, error, history, created_at, updated_at,
        started_at, finished_at,
    ) = row  # fmt: skip
    return Job(
        job_id=job_id,
        dataset_uuid=dataset_uuid,
        job_type=job_type,
        status=_STATUSES[status],
        parameters=_json(parameters),
        seq=seq,
        head=head,
        waits_for=_REASONS[waits_for],
        priority=priority,
        rank=rank,
        run_at=moment(run_at),
        attempt=attempt,
        max_attempts=max_attempts,
        token=token,
        worker_id=worker_id,
        lease_seconds=lease_seconds,
        heartbeat_at=_perhaps(heartbeat_at),
        cancel_requested=bool(cancel_requested),
        timeout_seconds=timeout_seconds,
        idempotency_key=idempotency_key,
        progress=_NO_PROGRESS if progress is None else Progress(**_json(progress)),
        result=None if result is None else _json(result),
        error=None if error is None else JobError(**_json(error)),
        history=() if history is None else tuple(map(_attempt, _json(history))),
        created_at=moment(created_at),
        updated_at=moment(updated_at),
        started_at=_perhaps(started_at),
        finished_at=_perhaps(finished_at),
    )


def target_of(row: Row) -> ConversionTarget:
    """A row of `TARGET_COLUMNS` as a record."""
    return ConversionTarget(**_target_fields(row))


def dataset_of(row: Row) -> Dataset:
    """A row of `DATASET_COLUMNS` as a record."""
    here = len(TARGET_NAMES)
    user, name, size_bytes, tags, description, public, created_at, updated_at = row[here:]
    return Dataset(
        **_target_fields(row[:here]),
        user=user,
        name=name,
        size_bytes=size_bytes,
        tags=tuple(json.loads(tags)),
        description=description,
        public=bool(public),
        created_at=moment(created_at),
        updated_at=moment(updated_at),
    )


def _target_fields(row: Row) -> dict[str, Any]:
    (
        uuid, sensor, status, error, forms, revision, wanted, token, version, closed_at, deleted_at, place, notice,
        keywords,
    ) = row  # fmt: skip
    return {
        "uuid": uuid,
        "sensor": sensor,
        "status": _dataset_status(uuid, status),
        "error": error,
        "forms": tuple(json.loads(forms)),
        "revision": revision,
        "wanted": None if wanted is None else Wanted(**json.loads(wanted)),
        "token": token,
        "version": version,
        "closed_at": _perhaps(closed_at),
        "deleted_at": _perhaps(deleted_at),
        "place": place,
        "notice": notice,
        "keywords": keywords,
    }


def _dataset_status(uuid: str, status: str) -> DatasetStatus:
    try:
        return DatasetStatus(status)
    except ValueError:
        raise IncompatibleInstallation(
            f"data set {uuid} has the status {status!r} of an older system; let `scientistcloud "
            "migrate-legacy` bring it over"
        ) from None


def _attempt(fields: dict[str, Any]) -> Attempt:
    error = fields["error"]
    return Attempt(
        number=fields["number"],
        worker_id=fields["worker_id"],
        started_at=moment(fields["started_at"]),
        finished_at=moment(fields["finished_at"]),
        outcome=fields["outcome"],
        error=None if error is None else JobError(**error),
    )


def moment(seconds: float) -> datetime:
    """POSIX seconds as aware UTC, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC)


def _perhaps(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


# -- to the database -----------------------------------------------------------------------------

# Made once: `json.dumps` with options makes one for each call, and a busy queue feels it.
compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def column(value: Any) -> str | int | float | None:
    """A field's value as it lies in its column: times in POSIX seconds, everything composed as JSON."""
    return _WAYS.get(type(value), _composed)(value)


def row_of(job: Job) -> Row:
    """A job as a row of `JOB_COLUMNS`: spelled out, because a `column` for each field takes three times as long."""
    return (
        job.job_id, job.dataset_uuid, job.job_type, job.status.value, compact(job.parameters), job.seq, job.head,
        None if job.waits_for is None else job.waits_for.value, job.priority, job.rank, job.run_at.timestamp(),
        job.attempt, job.max_attempts, job.token, job.worker_id, job.lease_seconds, column(job.heartbeat_at),
        job.cancel_requested, job.timeout_seconds, job.idempotency_key, _composed(job.progress),
        column(job.result), column(job.error), _composed(job.history), job.created_at.timestamp(),
        job.updated_at.timestamp(), column(job.started_at), column(job.finished_at),
    )  # fmt: skip


def changed_columns(before: Any, changed: Mapping[str, Any]) -> dict[str, str | int | float | None]:
    """The columns of those fields in `changed` that are not as they were `before`."""
    return {name: column(new) for name, new in changed.items() if new != getattr(before, name)}


def changes(before: Any, after: Any, names: tuple[str, ...]) -> dict[str, str | int | float | None]:
    """The columns among `names` in which `after` differs from `before`."""
    fields = _fields(names)
    return {
        name: column(new)
        for name, old, new in zip(names, fields(before), fields(after), strict=True)
        if new is not old and new != old
    }


@cache
def _fields(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    # Much faster than a `getattr` for each: these are read for every step of every job.
    return attrgetter(*names)


def _as_it_is(value: Any) -> Any:
    return value


def _composed(value: Any) -> str | None:
    match value:
        case StrEnum() | str():
            return str(value)
        case Progress():
            return None if value == _NO_PROGRESS else compact(_object(value))
        case tuple() | list():
            return compact([_object(each) for each in value]) if value else _EMPTY
        case _:
            return compact(_object(value))


# By type and not by `match`, because of the number of fields; sqlite3 stores a bool as 0 or 1.
_WAYS: dict[type, Callable[[Any], str | int | float | None]] = {
    **dict.fromkeys((type(None), bool, int, float, str), _as_it_is),
    **dict.fromkeys((JobStatus, WaitsFor, DatasetStatus), str),
    datetime: datetime.timestamp,
}


def _object(value: Any) -> Any:
    """A small record as a JSON object; what is JSON already as it is."""
    match value:
        case Attempt():
            return {
                "number": value.number,
                "worker_id": value.worker_id,
                "started_at": value.started_at.timestamp(),
                "finished_at": value.finished_at.timestamp(),
                "outcome": value.outcome,
                "error": _object(value.error),
            }
        case JobError():
            return {"type": value.type, "message": value.message, "permanent": value.permanent}
        case Progress():
            return {"fraction": value.fraction, "step": value.step, "message": value.message}
        case Wanted():
            return {
                "job_type": value.job_type,
                "idempotency_key": value.idempotency_key,
                "parameters": value.parameters,
            }
        case _:
            return value
