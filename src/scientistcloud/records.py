"""The records that everything else passes around: frozen, without I/O.

Times are aware UTC `datetime`. A name here is the column, the JSON key and the label as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

Json = Mapping[str, Any]
"""A JSON object as it was read: keys are strings, values JSON."""


# -- jobs ----------------------------------------------------------------------------------------


class JobStatus(StrEnum):
    """Where a job stands. A job that waits for its next attempt is `PENDING` with a later `run_at`."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class WaitsFor(StrEnum):
    """What a pending job waits for."""

    NOTHING = "nothing"
    """It is the head of its data set's line and due: any worker may claim it."""
    TURN = "turn"
    """An earlier job of the same data set."""
    TIME = "time"
    """Its `run_at`: a first run that is not due, or (as head) the pause before a retry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a running job has come."""

    #: 0 to 1.
    fraction: float = 0.0
    #: What it is doing, for people: ``"level 2 of 5"``.
    step: str = ""
    #: The latest line of news.
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobError:
    """Why an attempt, or the job, failed."""

    #: The exception's class name, `TimeOut`, `WorkerLost`, …
    type: str
    #: One line that says what happened, to what, and what to do.
    message: str
    #: True: another attempt would end the same.
    permanent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt that has ended."""

    #: Which attempt, from 1.
    number: int
    worker_id: str
    started_at: datetime
    finished_at: datetime
    #: `completed`, `failed`, `cancelled`, `released` (drained) or `lost` (the lease ran out).
    outcome: str
    error: JobError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One unit of work on one data set. It has no field for a person."""

    job_id: str
    dataset_uuid: str
    job_type: str
    status: JobStatus
    parameters: Json
    #: Place in the data set's line: the order of creation, grows by one or more.
    seq: int
    #: `dataset_uuid` while this job is the head of its line, else None. Unique.
    head: str | None
    #: On pending jobs alone.
    waits_for: WaitsFor | None
    #: 1 high, 2 normal, 3 low.
    priority: int
    #: Which head first (POSIX seconds): when it became claimable + 600 s × (priority − 1); pending alone.
    rank: float | None
    #: Not before this time.
    run_at: datetime
    #: Attempts that used up a try, the running one included.
    attempt: int
    max_attempts: int
    #: The fencing token of the last claim; 0 before the first. Grows over all jobs of the data set.
    token: int
    worker_id: str | None
    lease_seconds: float | None
    heartbeat_at: datetime | None
    cancel_requested: bool
    timeout_seconds: float | None
    idempotency_key: str | None
    progress: Progress
    result: Json | None
    error: JobError | None
    #: The last ten attempts that ended, oldest first.
    history: tuple[Attempt, ...]
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What a creator says of a job; checked and frozen by `jobs.queue`."""

    job_id: str
    dataset_uuid: str
    job_type: str
    parameters: Json
    priority: int = 2
    max_attempts: int = 3
    #: None: at once.
    run_at: datetime | None = None
    timeout_seconds: float | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What decides a data set's status: its jobs that work on its content, in three places.

    Jobs that are not due yet and deletions are left out.
    """

    running: Job | None = None
    #: The head while it waits (its turn has come, or it pauses before a retry).
    head: Job | None = None
    #: Of those that ended, the one that ended last.
    last: Job | None = None


# -- data sets -----------------------------------------------------------------------------------


class DatasetStatus(StrEnum):
    """Where a data set stands, in the words of the architecture of record."""

    UPLOADING = "uploading"
    UPLOAD_QUEUED = "upload queued"
    UNZIPPING = "unzipping"
    CONVERSION_QUEUED = "conversion queued"
    CONVERTING = "converting"
    DONE = "done"
    UPLOAD_ERROR = "upload error"
    UNZIP_ERROR = "unzip error"
    CONVERSION_ERROR = "conversion error"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The job that a data set's status promises; care creates it where its creator died first."""

    job_type: str
    idempotency_key: str
    parameters: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFile:
    """One source file of a data set."""

    dataset_uuid: str
    #: Relative to the data set's `source/`, "/" between parts, exactly as it was sent.
    path: str
    size_bytes: int
    #: Hex; None until it is known.
    sha256: str | None = None
    #: Of a file that was registered where it lies: its time of change then, nanoseconds since 1970.
    modified_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionTarget:
    """A data set as the service sees it: what is needed to work on it, and nobody's name.

    `Dataset` adds what people see. `datasets.lifecycle` works on either.
    """

    uuid: str
    #: As somebody named it, `auto` where nobody did, then as the worker decided.
    sensor: str
    status: DatasetStatus
    #: What went wrong last, for people; None while nothing did.
    error: str | None = None
    #: The converted forms, newest last; each is what ``scientistcloud convert --json`` prints, plus `token`
    #: and `job_id` of its publication.
    forms: tuple[Json, ...] = ()
    #: How often the sources were closed; 0 before the first close.
    revision: int = 0
    wanted: Wanted | None = None
    #: The greatest fencing token that wrote here; a worker with a smaller one is refused.
    token: int = 0
    #: Raised by every write.
    version: int = 0
    #: When the sources were closed: no file is added after it. None while open.
    closed_at: datetime | None = None
    deleted_at: datetime | None = None
    #: Where the sources lie, an absolute path, if they were registered there; None: in the data folder.
    place: str | None = None
    #: What people should know of the sources, such as that a file changed; None while there is nothing.
    notice: str | None = None
    #: Words of the sources' own metadata, a line each: what a search finds them by.
    keywords: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset(ConversionTarget):
    """One record of `visstoredatas`. `user` is its owner's e-mail: for display and rights, never for work."""

    user: str
    name: str
    size_bytes: int = 0
    tags: tuple[str, ...] = ()
    description: str = ""
    public: bool = False
    created_at: datetime
    updated_at: datetime


# -- people, workers -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who asks. Known to the portal alone."""

    email: str
    #: May see workers and the figures of the queue.
    operator: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A browser that has logged in."""

    #: SHA-256 of the cookie's value, hex: the cookie itself is stored nowhere.
    id_sha256: str
    email: str
    csrf_token: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What opens a remote source, sealed: jobs carry `reference` alone."""

    #: Drawn at random.
    reference: str
    #: Whose it is.
    user: str
    #: See `access.sealing`; without the data folder's key it says nothing.
    sealed: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A running background service, as it describes itself."""

    worker_id: str
    host: str
    slots: int
    job_types: tuple[str, ...]
    sensors: tuple[str, ...]
    version: str
    started_at: datetime
    last_seen: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeStats:
    """One job type's figures at one moment."""

    #: Nothing of it is handed out until somebody resumes it.
    paused: bool = False
    #: Pending jobs by what they wait for, every reason present.
    waiting: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(map(str, WaitsFor), 0))
    running: int = 0
    #: Failed jobs by the type of their error.
    failed: Mapping[str, int] = field(default_factory=dict)
    #: Age of its claimable job that has waited longest, in seconds; None when none waits.
    oldest_claimable_seconds: float | None = None

    @property
    def pending(self) -> int:
        return sum(self.waiting.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """The queue's figures at one moment."""

    #: `{status: number}`, every status present.
    by_status: Mapping[str, int] = field(default_factory=dict)
    #: `{job_type: figures}`, every type that a job was ever created of, and those that are paused.
    types: Mapping[str, TypeStats] = field(default_factory=dict)

    @property
    def waiting(self) -> Mapping[str, int]:
        """Pending jobs by what they wait for, every reason present."""
        return {
            str(reason): sum(each.waiting.get(reason, 0) for each in self.types.values()) for reason in WaitsFor
        }

    @property
    def oldest_claimable_seconds(self) -> float | None:
        """Age of the claimable job that has waited longest, in seconds; None when none waits."""
        ages = (each.oldest_claimable_seconds for each in self.types.values())
        return max((age for age in ages if age is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseState:
    """What a database is, and what is wrong with it."""

    #: In a few words, for people: ``SQLite 3.45 at /data/scientistcloud.db, 12 MB``.
    summary: str
    #: A sentence each that says what to do; empty where it is sound.
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A figure that only grows, or what is added to it."""

    #: As Prometheus knows it: ``scientistcloud_attempts_total``.
    name: str
    #: Name and value of each label, sorted by name.
    labels: tuple[tuple[str, str], ...] = ()
    value: float


# -- older records -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A record as it lies in the database, whoever wrote it."""

    #: The adapter's own handle of it.
    place: object
    #: Its fields as JSON values; times may be aware `datetime`s.
    fields: Json


# -- as JSON -------------------------------------------------------------------------------------


def json_of(record: Any) -> dict[str, Any]:
    """A record as a JSON object: the same names, times in ISO 8601 with their zone."""
    return {name: _json_value(value) for name, value in asdict(record).items()}


def _json_value(value: Any) -> Any:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case dict():
            return {key: _json_value(each) for key, each in value.items()}
        case list() | tuple():
            return [_json_value(each) for each in value]
        case _:
            return value
