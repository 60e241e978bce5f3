"""What the older system wrote, in our words: pure.

Its data sets name their owner `user_id` or `user_email`, spell a status in many ways, and lack most of our fields;
its jobs carry the person who asked for them. `dataset_of` and `job_of` say what such a record becomes, and that one
of ours stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from datetime import UTC, datetime
from typing import Any

from scientistcloud.jobs.parameters import PERSONS, without_persons
from scientistcloud.records import Dataset, DatasetStatus, JobStatus, Json, Wanted

_OWNERS = ("user", "user_id", "user_email", "owner", "email")

#: The older spellings, small letters and single spaces, beside our own.
STATUSES: Mapping[DatasetStatus, tuple[str, ...]] = {
    DatasetStatus.DONE: (
        "completed", "complete", "success", "successful", "succeeded", "finished", "ready", "processed",
        "converted", "compressed", "uploaded",
    ),
    # What its workers had in hand when they stopped begins anew; zipping and compressing came after the conversion.
    DatasetStatus.CONVERSION_QUEUED: (
        "retrying", "retry", "queued", "submitted", "pending", "processing", "in progress", "running",
        "zipping", "compressing", "compression queued",
    ),
    DatasetStatus.UPLOAD_QUEUED: ("sync queued", "import queued", "download queued", "unzip queued"),
    DatasetStatus.UPLOADING: ("syncing", "importing", "downloading"),
    DatasetStatus.UNZIPPING: ("extracting",),
    DatasetStatus.UPLOAD_ERROR: (
        "upload failed", "sync error", "sync failed", "import error", "import failed", "download error",
        "download failed",
    ),
    DatasetStatus.UNZIP_ERROR: ("unzip failed", "zip error", "zip failed", "extraction error", "extraction failed"),
    DatasetStatus.CONVERSION_ERROR: (
        "conversion failed", "compression error", "compression failed", "processing error", "processing failed",
        "failed", "failure", "error",
    ),
    DatasetStatus.CANCELLED: ("canceled", "aborted", "stopped"),
}  # fmt: skip
_OURS = {spelling: status for status, spellings in STATUSES.items() for spelling in spellings}

JOB_STATUSES: Mapping[JobStatus, tuple[str, ...]] = {
    JobStatus.PENDING: ("retrying", "retry", "queued", "submitted", "processing", "in progress"),
    JobStatus.COMPLETED: ("complete", "success", "successful", "succeeded", "done", "finished"),
    JobStatus.FAILED: ("failure", "error"),
    JobStatus.CANCELLED: ("canceled", "aborted", "stopped"),
}
_OUR_JOBS = {spelling: status for status, spellings in JOB_STATUSES.items() for spelling in spellings}

# The others are open: files may still come; whoever owns it closes it, and it is converted.
_CLOSED = frozenset(
    {
        DatasetStatus.CONVERSION_QUEUED,
        DatasetStatus.CONVERTING,
        DatasetStatus.DONE,
        DatasetStatus.CONVERSION_ERROR,
    }
)
_FAILED = frozenset({DatasetStatus.UPLOAD_ERROR, DatasetStatus.UNZIP_ERROR, DatasetStatus.CONVERSION_ERROR})


@dataclass(frozen=True, slots=True, kw_only=True)
class OlderDataset:
    """What an older record becomes."""

    dataset: Dataset
    #: Fields that it has no more.
    drop: tuple[str, ...]
    #: What changes, for people.
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OlderJob:
    """What the two fields of an older job become."""

    status: JobStatus
    parameters: Json
    drop: tuple[str, ...]
    changes: tuple[str, ...]


def dataset_of(fields: Json, *, now: datetime) -> OlderDataset | None:
    """What the record `fields` of `visstoredatas` becomes; None where it is one of ours already."""
    said = str(fields.get("status", ""))
    status = _status(said)
    aliases = tuple(name for name in _OWNERS if name != "user" and name in fields)
    owner, place = next(((str(fields[name]), name) for name in _OWNERS if fields.get(name)), ("", ""))
    # Ours has every field, and was closed by us before anything was made of it.
    whole = "version" in fields and "revision" in fields
    never_closed = status in _CLOSED and not fields.get("revision")
    if status == said and whole and owner and not aliases and not never_closed:
        return None
    changes = []
    if status != said:
        changes.append(f"status {said!r} becomes {str(status)!r}")
    # A database may have written into `user` already what stands in `user_id`.
    named = next((name for name in aliases if owner and fields[name] == owner), "") if place == "user" else place
    if named:
        changes.append(f"{named} becomes user")
    if not owner:
        changes.append("nobody owns it: its record names no user")
    if not whole or never_closed:
        changes.append("the fields that it lacks are added")
    updated_at = _moment(fields.get("updated_at")) or _moment(fields.get("created_at")) or now
    dataset = Dataset(
        **(
            _read(fields, now=now)
            | (_kept(fields) if whole else {})
            | {
                "user": owner,
                "status": status,
                "error": _error(fields, said, status),
                "revision": max(_whole(fields.get("revision")), 1 if status in _CLOSED else 0),
                "version": _whole(fields.get("version")) + 1,
                "closed_at": _moment(fields.get("closed_at")) or (updated_at if status in _CLOSED else None),
                "updated_at": now,
            }
        )
    )
    return OlderDataset(dataset=dataset, drop=aliases, changes=tuple(changes))


def job_of(fields: Json) -> OlderJob | None:
    """What the record `fields` of `jobs` becomes; None where it names no person and its status is ours."""
    said = str(fields.get("status", ""))
    drop = tuple(name for name in fields if name.lower() in PERSONS)
    parameters = fields.get("parameters", {})
    clean = without_persons(parameters)
    status = JobStatus(said) if said in set(JobStatus) else _OUR_JOBS.get(_spelled(said))
    if not isinstance(clean, dict) or status is None:
        return None  # adoption refuses it, and says why on the job
    changes = [f"{name} is removed" for name in drop]
    if clean != parameters:
        changes.append("the person in its parameters is removed")
    if status != said:
        changes.append(f"status {said!r} becomes {str(status)!r}")
    if not changes:
        return None
    return OlderJob(status=status, parameters=clean, drop=drop, changes=tuple(changes))


# -- details -------------------------------------------------------------------------------------


def _status(said: str) -> DatasetStatus:
    spelled = _spelled(said)
    if spelled in _OURS:
        return _OURS[spelled]
    return DatasetStatus(spelled) if spelled in set(DatasetStatus) else DatasetStatus.CONVERSION_ERROR


def _read(fields: Json, *, now: datetime) -> dict[str, Any]:
    """What the older system's fields say."""
    return {
        "uuid": str(fields["uuid"]),
        "name": str(fields.get("name") or fields["uuid"]),
        "sensor": str(fields.get("sensor") or fields.get("sensor_type") or "auto"),
        "size_bytes": _whole(fields.get("size_bytes")),
        "tags": tuple(map(str, _list(fields.get("tags")))),
        "description": str(fields.get("description") or ""),
        "public": _true(fields.get("public", fields.get("is_public"))),
        "created_at": _moment(fields.get("created_at")) or _moment(fields.get("date_imported")) or now,
    }


def _kept(fields: Json) -> dict[str, Any]:
    """The fields of ours that the record has, as they are."""
    kept: dict[str, Any] = {}
    for name in (each.name for each in dataclass_fields(Dataset) if each.name in fields):
        value = fields[name]
        if name.endswith("_at"):
            kept[name] = _moment(value)
        elif name == "wanted":
            kept[name] = Wanted(**value)
        else:
            kept[name] = tuple(value) if isinstance(value, list) else bool(value) if name == "public" else value
    return kept


def _spelled(status: str) -> str:
    return " ".join(status.lower().replace("_", " ").replace("-", " ").split())


def _error(fields: Json, said: str, status: DatasetStatus) -> str | None:
    if status not in _FAILED:
        return None
    for name in ("error", "error_message"):
        if isinstance(text := fields.get(name), str) and text.strip():
            return " ".join(text.split())[:2000]
    return f"the older system said {said!r} of it and no more; convert it again"


def _list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return list(value) if isinstance(value, list | tuple) else []


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else 0


def _true(value: Any) -> bool:
    return value.strip().lower() in ("true", "yes", "1") if isinstance(value, str) else bool(value)


def _moment(value: Any) -> datetime | None:
    """A time as it was written: aware, naive (then UTC), ISO 8601, or POSIX seconds."""
    try:
        match value:
            case datetime():
                moment = value
            case str() if value:
                moment = datetime.fromisoformat(value)
            case bool():
                return None
            case int() | float():
                return datetime.fromtimestamp(value, UTC)
            case _:
                return None
    except (ValueError, OverflowError, OSError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
