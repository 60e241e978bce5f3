"""A data set and its job in the words of the pages."""

from __future__ import annotations

from dataclasses import dataclass

from scientistcloud.jobs.handling import Obstacle
from scientistcloud.portal.live import Row
from scientistcloud.records import DatasetStatus, Job, JobStatus, WaitsFor


@dataclass(frozen=True, slots=True)
class State:
    """How it stands with a data set."""

    #: One or two words: "Ready", "Converting".
    label: str
    #: `ok`, `work`, `bad` or `quiet`: which colour it has.
    tone: str
    #: What is being done, or waited for: "level 2 of 5".
    step: str
    #: 0 to 100; None where there is nothing to measure.
    percent: float | None
    #: Why it failed; None where it did not.
    error: str | None


_LABELS = {
    DatasetStatus.UPLOADING: ("Uploading", "work"),
    DatasetStatus.UPLOAD_QUEUED: ("Waiting", "work"),
    DatasetStatus.UNZIPPING: ("Unpacking", "work"),
    DatasetStatus.CONVERSION_QUEUED: ("Waiting", "work"),
    DatasetStatus.CONVERTING: ("Converting", "work"),
    DatasetStatus.DONE: ("Ready", "ok"),
    DatasetStatus.UPLOAD_ERROR: ("Upload failed", "bad"),
    DatasetStatus.UNZIP_ERROR: ("Unpacking failed", "bad"),
    DatasetStatus.CONVERSION_ERROR: ("Conversion failed", "bad"),
    DatasetStatus.CANCELLED: ("Cancelled", "quiet"),
}
_OBSTACLES = {
    Obstacle.PAUSED: "jobs of this kind are paused",
    Obstacle.NO_WORKER: "no worker runs just now",
    Obstacle.NOT_HANDLED: "no worker here can do this",
}
_RUNS = (DatasetStatus.CONVERTING, DatasetStatus.UNZIPPING)


def state_of(row: Row) -> State:
    """What a page says of `row`."""
    dataset, job = row.dataset, row.job
    label, tone = _LABELS[dataset.status]
    if dataset.status is DatasetStatus.DONE and not dataset.forms:
        label, tone = "Stored", "quiet"
    percent = None
    step = ""
    if job is not None and not job.status.ended:
        step = _OBSTACLES[row.obstacle] if row.obstacle else job_step(job)
        percent = round(100 * job.progress.fraction, 1) if job.status is JobStatus.RUNNING else 0.0
    elif dataset.status is DatasetStatus.UPLOADING:
        step = "files are still to come"
    elif dataset.status in _RUNS or tone == "work":
        step = "about to be queued"
        percent = 0.0
    return State(label, tone, step, percent, dataset.error)


def job_step(job: Job) -> str:
    """What `job` does or waits for."""
    if job.cancel_requested and not job.status.ended:
        return "cancelling"
    if job.status is JobStatus.RUNNING:
        return job.progress.step or "starting"
    if job.status is JobStatus.PENDING:
        match job.waits_for:
            case WaitsFor.TURN:
                return "waits for an earlier job of this data set"
            case WaitsFor.TIME if job.history:
                return f"tries again soon (attempt {job.attempt + 1} of {job.max_attempts})"
            case WaitsFor.TIME:
                return "waits for its time"
            case _:
                return "waits for a worker"
    return ""


_TYPES = {
    "dataset_conversion": "Conversion",
    "dataset_import": "Import",
    "dataset_preview": "First look",
    "file_extraction": "Unpacking",
    "dataset_deletion": "Deletion",
}


def job_type(name: str) -> str:
    """What a job does, for people."""
    return _TYPES.get(name, name.replace("_", " ").capitalize())


def may_cancel(job: Job | None) -> bool:
    return job is not None and not job.status.ended and not job.cancel_requested


def may_retry(job: Job | None) -> bool:
    return job is not None and job.status in (JobStatus.FAILED, JobStatus.CANCELLED)
