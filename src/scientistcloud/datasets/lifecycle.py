"""The life of a data set's status: pure, no clock, no I/O.

::

    (opened) ── uploading ──close──> conversion queued ──claim──> converting ──> done
                   │    │             ▲      ▲    │                  │  │
                   │    │             │      │    └─cancel─┐         │  └─> conversion error
                   │    └─close, no conversion wanted──────┼──> done │
                   └─> upload error   │      └──retry, lease lost────┘
                                      └── "convert again", from any status of a closed data set

An archive or an import waits as `upload queued` and runs as `unzipping` or `uploading`; its end leads to the job
that its `result` names as `then`. A cancelled conversion leaves `done` where a form exists, else `cancelled`.
Deleting hides a data set, whatever its status, and restoring shows it again, until its removal is due. Everything
after the close follows from the jobs alone:
`settled` computes it, for the worker, for cancel and retry, for the reaper and for care alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar, assert_never

from scientistcloud.errors import AlreadyFinished, InvalidTransition
from scientistcloud.records import ConversionTarget, DatasetStatus, Job, JobStatus, Json, Line, Wanted

D = TypeVar("D", bound=ConversionTarget)

CONVERSION, IMPORT, EXTRACTION, DELETION = (
    "dataset_conversion",
    "dataset_import",
    "file_extraction",
    "dataset_deletion",
)
LOOK = "dataset_preview"
"""A first look: it changes no status."""
_WAITING = {
    CONVERSION: DatasetStatus.CONVERSION_QUEUED,
    IMPORT: DatasetStatus.UPLOAD_QUEUED,
    EXTRACTION: DatasetStatus.UPLOAD_QUEUED,
}
_RUNNING = {
    CONVERSION: DatasetStatus.CONVERTING,
    IMPORT: DatasetStatus.UPLOADING,
    EXTRACTION: DatasetStatus.UNZIPPING,
}
_FAILED = {
    CONVERSION: DatasetStatus.CONVERSION_ERROR,
    IMPORT: DatasetStatus.UPLOAD_ERROR,
    EXTRACTION: DatasetStatus.UNZIP_ERROR,
}


# -- what people and their clients do ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Closed:
    """All files have arrived; `wanted` is the job to come, None where none was asked for."""

    wanted: Wanted | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Reopened:
    """More files are to come."""


@dataclass(frozen=True, slots=True)
class SourcesChanged:
    """Files of a registered data set changed or went; `wanted` is a conversion, where a rule asks for one."""

    notice: str
    wanted: Wanted | None


@dataclass(frozen=True, slots=True)
class UploadFailed:
    """The upload will not go on."""

    message: str


@dataclass(frozen=True, slots=True)
class ConversionWanted:
    """ "Convert again", or a conversion of what was closed without one."""

    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Deleted:
    """Out of sight; for some days it can be had back."""

    now: datetime


@dataclass(frozen=True, slots=True)
class Restored:
    """Had back."""


@dataclass(frozen=True, slots=True)
class RemovalDue:
    """Nobody wanted it back: `wanted` removes it for good."""

    wanted: Wanted


Event = Closed | Reopened | SourcesChanged | UploadFailed | ConversionWanted | Deleted | Restored | RemovalDue


def after(dataset: D, event: Event) -> D:
    """`dataset` after `event`. Raises `InvalidTransition`, naming the data set and what to do."""
    match event:
        case Closed(wanted, now):
            if dataset.closed_at is not None:
                raise AlreadyFinished(f"data set {dataset.uuid} is closed already; open it again to add files")
            return replace(
                dataset,
                status=DatasetStatus.DONE if wanted is None else _WAITING[wanted.job_type],
                error=None,
                closed_at=now,
                revision=dataset.revision + 1,
                wanted=wanted,
            )
        case Reopened():
            if dataset.place is not None:
                raise InvalidTransition(
                    f"the files of data set {dataset.uuid} stay where they lie, so none is added here; add it at "
                    f"{dataset.place}"
                )
            if dataset.closed_at is None and dataset.status is not DatasetStatus.UPLOAD_ERROR:
                return dataset
            if dataset.status in (DatasetStatus.CONVERTING, DatasetStatus.UNZIPPING, DatasetStatus.UPLOADING):
                raise InvalidTransition(
                    f"data set {dataset.uuid} is {dataset.status}; cancel its job or wait for it, then add files"
                )
            return replace(dataset, status=DatasetStatus.UPLOADING, error=None, closed_at=None, wanted=None)
        case SourcesChanged(notice, wanted):
            changed = replace(dataset, revision=dataset.revision + 1, notice=notice)
            return changed if wanted is None else after(changed, ConversionWanted(wanted))
        case UploadFailed(message):
            if dataset.closed_at is not None:
                raise AlreadyFinished(f"data set {dataset.uuid} is closed; its upload cannot fail any more")
            return replace(dataset, status=DatasetStatus.UPLOAD_ERROR, error=message)
        case ConversionWanted(wanted):
            if dataset.closed_at is None:
                raise InvalidTransition(f"data set {dataset.uuid} is still open; close it, which converts it")
            if dataset.status in (DatasetStatus.CONVERTING, DatasetStatus.UNZIPPING, DatasetStatus.UPLOADING):
                return replace(dataset, wanted=wanted)  # it waits for the job that runs
            return replace(dataset, status=_WAITING[wanted.job_type], error=None, wanted=wanted)
        case Deleted(now):
            if dataset.deleted_at is not None:
                return dataset
            # What was promised and not created yet will not come, as if it had been cancelled.
            status = dataset.status if dataset.wanted is None else _without_work(dataset)
            return replace(dataset, deleted_at=now, wanted=None, status=status)
        case Restored():
            if dataset.deleted_at is not None and dataset.wanted is not None:
                raise InvalidTransition(f"data set {dataset.uuid} is being removed; upload its files again")
            return replace(dataset, deleted_at=None)
        case RemovalDue(wanted):
            if dataset.deleted_at is None:
                raise InvalidTransition(f"data set {dataset.uuid} is not deleted; delete it first")
            return replace(dataset, wanted=wanted)
        case _:
            assert_never(event)


# -- what follows from the jobs ------------------------------------------------------------------


def settled(dataset: D, line: Line) -> D:
    """`dataset` with the status that its jobs give it: the running one, else the head, else the last to end.

    A data set that is open for files stays as it is unless a job works on it; one that was opened again while its
    conversion waited is open again when that has ended. One whose promised job was not created yet (`wanted`)
    keeps the promise; a promise that is found among the jobs is fulfilled.
    """
    if dataset.wanted is not None and any(
        job is not None and job.idempotency_key == dataset.wanted.idempotency_key
        for job in (line.running, line.head, line.last)
    ):
        dataset = fulfilled(dataset)
    if (job := line.running) is not None:
        return _with(dataset, _RUNNING.get(job.job_type), None)
    if dataset.closed_at is None and dataset.revision > 0:
        still_open = dataset.status in (DatasetStatus.UPLOADING, DatasetStatus.UPLOAD_ERROR)
        return dataset if still_open else _with(dataset, DatasetStatus.UPLOADING, None)
    if (job := line.head) is not None:
        return _with(dataset, _WAITING.get(job.job_type), None)
    if dataset.wanted is not None and dataset.wanted.job_type in _WAITING:
        return _with(dataset, _WAITING.get(dataset.wanted.job_type), None)
    if dataset.closed_at is None and dataset.status in (DatasetStatus.UPLOADING, DatasetStatus.UPLOAD_ERROR):
        return dataset
    if (job := line.last) is not None:
        return _ended(dataset, job)
    return dataset


def is_whole(dataset: ConversionTarget | None) -> bool:
    """Whether all of the data are converted: a first look would take the place of that."""
    return dataset is not None and any(not form.get("look") for form in dataset.forms)


def fulfilled(dataset: D) -> D:
    """`dataset` whose promised job exists."""
    return replace(dataset, wanted=None)


def published(dataset: D, *, form: Json, sensor: str | None) -> D:
    """`dataset` with a new form, made of the sources as they are now; its status follows from the job."""
    # A first look leaves it to the conversion to be up to date.
    notice = dataset.notice if form.get("look") else None
    form = dict(form)
    keywords = form.pop("keywords", "")
    return replace(dataset, forms=(form,), sensor=sensor or dataset.sensor, notice=notice, keywords=keywords)


def _ended(dataset: D, job: Job) -> D:
    if job.job_type not in _WAITING:
        return dataset
    match job.status:
        case JobStatus.COMPLETED:
            if (then := _following(job)) is not None:
                return _with(replace(dataset, wanted=then), _WAITING[then.job_type], None)
            return _with(dataset, DatasetStatus.DONE, None)
        case JobStatus.FAILED:
            message = job.error.message if job.error else "the job failed; see its log"
            return _with(dataset, _FAILED[job.job_type], message)
        case JobStatus.CANCELLED:
            return _with(dataset, _without_work(dataset), None)
        case _:
            return dataset


def _without_work(dataset: ConversionTarget) -> DatasetStatus:
    """The status where the work was called off."""
    return DatasetStatus.DONE if dataset.forms else DatasetStatus.CANCELLED


def _following(job: Job) -> Wanted | None:
    """The job that a completed import or extraction leads to; see `datasets.wanted`."""
    match (job.result or {}).get("then") if job.job_type in (IMPORT, EXTRACTION) else None:
        case {
            "job_type": str(job_type),
            "idempotency_key": str(key),
            "parameters": Mapping() as parameters,
        } if job_type in (CONVERSION, EXTRACTION):
            return Wanted(job_type=job_type, idempotency_key=key, parameters=dict(parameters))
        case _:
            return None


def _with(dataset: D, status: DatasetStatus | None, error: str | None) -> D:
    return dataset if status is None else replace(dataset, status=status, error=error)
