"""What the outside must offer: databases, disks and clocks, as intentions, never as queries.

An adapter lives in ``database/NAME/`` or ``storage/``; `scientistcloud.testing` ships the contract suites that
every adapter passes. Any method of a database port raises `Unavailable` when the database does not answer: a
silent database must never look like an empty queue. None means "there is none", never "it broke".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from scientistcloud.records import (
    ConversionTarget,
    Count,
    Credential,
    DatabaseState,
    Dataset,
    DatasetFile,
    DatasetStatus,
    Found,
    Job,
    JobError,
    JobStatus,
    Json,
    Line,
    NewJob,
    Progress,
    QueueStats,
    Session,
    Worker,
)


class Clock(Protocol):
    """Two clocks: one for people, one that never jumps."""

    def now(self) -> datetime:
        """Wall time, aware UTC."""

    def monotonic(self) -> float:
        """Seconds since some moment of this boot; runs on in suspend where the system has such a clock."""


class JobStore(Protocol):
    """Keeps jobs. Every method is safe between threads, processes and (by database) machines.

    The decisions are those of `jobs.lifecycle`; a store moves records atomically and nothing else.
    """

    def create(self, jobs: Sequence[NewJob], *, max_pending_per_dataset: int | None = None) -> list[str]:
        """Durably add `jobs` in order; the `job_id` of each (an earlier one for a known idempotency key).

        Raises `IdempotencyConflict`, `QueueFull`; then none was added on an embedded database.
        """

    def claim(
        self, worker_id: str, *, limit: int, job_types: Sequence[str] | None, lease_seconds: float
    ) -> list[Job]:
        """Lease up to `limit` due heads to `worker_id`, lowest `rank` first; recovers lost leases on the way.

        Two callers never receive the same claim. `job_types` None: every type that is not paused.
        """

    def heartbeat(self, job: Job, *, progress: Progress | None = None) -> Job:
        """Renew the lease by the job's token; the record as it is now.

        Raises `LeaseLost`; `Cancelled` when a cancel was requested.
        """

    def complete(
        self,
        job: Job,
        *,
        result: Json | None,
        claim_next: bool = False,
        job_types: Sequence[str] | None = None,
    ) -> Job | None:
        """End the job as completed by its token, promote the next of its line, perhaps claim one more.

        Raises `LeaseLost`. Repeated with the same token it succeeds again.
        """

    def complete_many(
        self,
        ends: Sequence[tuple[Job, Json | None]],
        *,
        claim_next: bool = False,
        job_types: Sequence[str] | None = None,
    ) -> list[Job]:
        """End each job as completed with its result, perhaps claim as many for the worker of the first.

        On an embedded database in one commit. Those that their worker lost change nothing, the others end; then
        `LeaseLost` names the lost ones, and nothing was claimed.
        """

    def fail(self, job: Job, error: JobError, *, retry_after_seconds: float) -> Job:
        """End the attempt: the job is pending again after the pause, or failed; by the job's token."""

    def release(self, job: Job) -> Job:
        """Give the job back unharmed, its try not counted; by its token."""

    def acknowledge_cancel(self, job: Job) -> Job:
        """End the job as cancelled, by its token."""

    def cancel(self, job_id: str) -> Job:
        """Pending: cancelled at once. Running: asked for. Raises `NotFound`, `AlreadyFinished`."""

    def retry(self, job_id: str) -> Job:
        """A failed or cancelled job joins its line again. Raises `NotFound`, `InvalidTransition`."""

    def pause(self, job_type: str) -> None:
        """Hand out no job of `job_type` until `resume`; what runs goes on. The type need not be known yet."""

    def resume(self, job_type: str) -> None:
        """Hand out jobs of `job_type` again, and wake who waits for them."""

    def paused(self) -> Sequence[str]:
        """The job types that are paused; cheap, for pages that ask often."""

    def get(self, job_id: str) -> Job | None:
        """The job, or None."""

    def find(
        self,
        *,
        dataset_uuid: str | None = None,
        status: JobStatus | None = None,
        job_type: str | None = None,
        error: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """Jobs in the order of creation, after the job `after`.

        `error`: part of the type or the message of the job's error, case ignored.
        """

    def line(self, dataset_uuid: str) -> Line:
        """What decides the data set's status."""

    def current(self, dataset_uuids: Sequence[str]) -> Mapping[str, Job]:
        """For each data set that has jobs: the running one, else the head, else the newest."""

    def changed_since(self, moment: datetime) -> Sequence[str]:
        """UUIDs of the data sets with a job whose `updated_at` is `moment` or later."""

    def recover(self, *, dead: Sequence[str] = ()) -> int:
        """Take back the jobs whose lease ran out and heal what crashes left; how many were touched.

        The jobs of the workers `dead` (their ids) are taken back at once, whatever their lease says.
        """

    def on_loss(self, tell: Callable[[Job], None]) -> None:
        """Have `tell` hear, once it is written, of each job that this process takes back since its lease ran out.

        It is told the job as it was. Each loss is told once, in one process.
        """

    def adopt(self) -> int:
        """Give documents of other clients (the five fields of the architecture of record) their other fields."""

    def prune(self, *, before: datetime, keep: int | None = None, limit: int = 500) -> Sequence[str]:
        """Remove at most `limit` jobs that ended before `before`, or that are the oldest where more than `keep`
        have ended; never a data set's newest. Their ids.
        """

    def wait(self, seconds: float) -> bool:
        """Sleep until a job may have become claimable, or `seconds` have passed; whether woken."""

    def rouse(self) -> None:
        """Have every `wait` of this process return at once; where a thread does not wait now, its next one.

        Not in a signal handler: what it interrupts may hold a lock.
        """

    def claimable(self) -> Sequence[str]:
        """The ids of the jobs that claims look at now, whoever claims; for checks, it reads them all."""

    def remove(self, dataset_uuid: str) -> None:
        """Forget all jobs of a data set that never was one (a check's); nothing happens where there are none."""

    def stats(self) -> QueueStats:
        """The figures of this moment; of the canaries of ``scientistcloud verify`` only what one left behind."""


class TargetStore(Protocol):
    """The data sets as the service may see them: by `uuid`, without a person."""

    def get(self, dataset_uuid: str) -> ConversionTarget | None:
        """By projection: the fields of `ConversionTarget` and no others leave the database."""

    def update(
        self, before: ConversionTarget, after: ConversionTarget, *, token: int | None = None
    ) -> ConversionTarget:
        """Write the fields in which `after` differs from `before`, where ``uuid`` is theirs; `version` grows.

        With `token` (a worker): refused with `LeaseLost` where the record's token is greater, else it becomes
        the record's. Without (everybody else): `Stale` unless the record still has ``before.version``.
        """

    def promised(self, *, limit: int = 500) -> Sequence[ConversionTarget]:
        """Data sets with a `wanted` job, oldest change first; deleted ones too, whose removal is promised."""

    def deleted(self, *, before: datetime, limit: int = 100) -> Sequence[ConversionTarget]:
        """Data sets deleted before `before` that wait for no job, the first deleted first."""

    def remove(self, dataset_uuid: str, *, token: int) -> None:
        """Forget the record and its files' records; nothing happens where there is none.

        Refused with `LeaseLost` where the record's token is greater.
        """

    def all(self, *, after: str | None = None, limit: int = 500) -> Sequence[ConversionTarget]:
        """Every data set by uuid, after the uuid `after`, those deleted too."""


class DatasetStore(Protocol):
    """The data sets with their people: for intake and portal alone."""

    def add(self, dataset: Dataset) -> None:
        """Durably add the record. Raises `InvalidTransition` where the uuid exists."""

    def get(self, dataset_uuid: str) -> Dataset | None:
        """The record, a deleted one too."""

    def update(self, before: Dataset, after: Dataset) -> Dataset:
        """Write the fields in which `after` differs, if the record has ``before.version``; else `Stale`."""

    def describe(
        self,
        dataset_uuid: str,
        *,
        name: str | None = None,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        public: bool | None = None,
    ) -> Dataset:
        """Write what people say of it, the fields given alone; a worker's writes stay. Raises `NotFound`."""

    def find(
        self,
        *,
        user: str,
        statuses: Sequence[DatasetStatus] | None = None,
        text: str | None = None,
        deleted: bool = False,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Dataset]:
        """`user`'s data sets that are not deleted (`deleted`: those that are), newest first, after `after`.

        `text`: part of name, tag, sensor or description, case ignored.
        """

    def find_public(
        self,
        *,
        text: str | None = None,
        sensor: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Dataset]:
        """Public data sets, whoever's, that are not deleted and have a form or files, newest first, after `after`.

        `text` as in `find`; `sensor`: this one alone, as it is written. Raises `NotFound` where `after` is not
        public.
        """

    def public_sensors(self) -> Mapping[str, int]:
        """How many of those that `find_public` lists there are of each sensor."""

    def counts(self, *, user: str) -> Mapping[DatasetStatus, int]:
        """How many of `user`'s data sets have each status, and none for the statuses without one."""

    def stored_bytes(self, *, user: str) -> int:
        """The sum of `size_bytes` of `user`'s data sets that are not deleted, less those that lie elsewhere."""

    def put_files(self, files: Sequence[DatasetFile]) -> None:
        """Add or replace source files by (`dataset_uuid`, `path`); raises their data sets' `size_bytes` along."""

    def files(self, dataset_uuid: str, *, after: str | None = None, limit: int = 1000) -> list[DatasetFile]:
        """Source files by path, after the path `after`."""

    def registered(self, place: str) -> list[Dataset]:
        """Data sets whose sources lie at the path `place` or below it, by their place; deleted ones left out."""

    def remove_file(self, dataset_uuid: str, path: str) -> None:
        """Forget a source file; nothing happens where there is none."""

    def remove(self, dataset_uuid: str) -> None:
        """Forget the record and its files' records; nothing happens where there is none."""


class WorkerStore(Protocol):
    """Who works."""

    def announce(self, worker: Worker) -> None:
        """Add or renew a worker's entry."""

    def leave(self, worker_id: str) -> None:
        """The worker stopped."""

    def all(self) -> list[Worker]:
        """Every entry, those long unseen too."""


class SessionStore(Protocol):
    """Log-ins of browsers."""

    def add(self, session: Session) -> None:
        """Keep a session; expired ones go on the way."""

    def get(self, id_sha256: str) -> Session | None:
        """The session, None where there is none or it has expired."""

    def remove(self, id_sha256: str) -> None:
        """Log out."""


class CredentialStore(Protocol):
    """What opens remote sources, sealed: people add it, the service asks by reference alone."""

    def add(self, credential: Credential) -> None:
        """Durably keep it; expired ones go on the way."""

    def sealed(self, reference: str) -> str | None:
        """What was sealed, None where there is none or it has expired. Nothing else leaves the database."""

    def remove(self, reference: str) -> None:
        """Forget it; nothing happens where there is none."""


class MetaStore(Protocol):
    """What is known of the installation."""

    def installation_id(self) -> str:
        """Drawn when the database was made."""

    def state(self) -> DatabaseState:
        """What the database is, and what is wrong with it; looks at all of it, so it may take a while."""

    def hold(self, role: str, holder: str, *, seconds: float) -> bool:
        """Take or renew `role` for so long; False while another holds it."""

    def release(self, role: str, holder: str) -> None:
        """Give `role` back, if `holder` has it."""


class CounterStore(Protocol):
    """Figures that only grow, added to by every process of the installation."""

    def add(self, counts: Sequence[Count]) -> None:
        """Add each `value` to the figure of its name and labels, which begins at 0.

        Each is one step. After an answer that was lost the caller may add again: figures, no facts.
        """

    def all(self) -> list[Count]:
        """Every figure, by name and labels."""


class OlderRecords(Protocol):
    """The two collections as they lie there, for taking over what an older system wrote. Decides nothing."""

    def datasets(self) -> Iterator[Found]:
        """Every record of `visstoredatas`, ours too; those that appear meanwhile may be missed."""

    def take_dataset(self, found: Found, dataset: Dataset, *, drop: Sequence[str] = ()) -> bool:
        """Durably write every field of `dataset` into the record `found`; what else it has stays, save `drop`.

        False, and nothing is written, where the record was changed or removed since it was found.
        """

    def jobs(self) -> Iterator[Found]:
        """Every record of `jobs`, ours too; `parameters` as a JSON value where they are one."""

    def take_job(self, found: Found, *, status: JobStatus, parameters: Json, drop: Sequence[str] = ()) -> bool:
        """Durably write these two fields of the job, and remove its fields `drop`; as `take_dataset`."""


class Store(Protocol):
    """One database, opened. Made by `scientistcloud.open_store`; safe to share between threads."""

    url: str
    clock: Clock
    jobs: JobStore
    targets: TargetStore
    datasets: DatasetStore
    workers: WorkerStore
    sessions: SessionStore
    credentials: CredentialStore
    meta: MetaStore
    counters: CounterStore
    older: OlderRecords

    def change_mark(self) -> object:
        """Compares unequal to an earlier one after a commit by any process; costs microseconds to ask."""

    def trace(self) -> AbstractContextManager[list[str]]:
        """While open, a list that grows by each statement this process sends, in the database's own words."""

    def share_bell(self, path: Path) -> None:
        """Wake, and be woken by, the other processes of this machine that share the FIFO at `path`.

        Only sooner than without; nothing happens where the database has a bell of its own.
        """

    def close(self) -> None:
        """Let go of the database; using the store afterwards is an error."""


class FormStore(Protocol):
    """Where converted forms lie, and the guard that lets a form appear whole or not at all."""

    def begin(self, dataset_uuid: str, *, job_id: str, token: int) -> Path | None:
        """An empty folder for the attempt's output, or None where `job_id` has already published or brought files.

        Writes `token` into the guard; empties what older attempts left. Raises `LeaseLost` where the guard has
        a greater token, `Unavailable` where it cannot be had, naming the holder.
        """

    def publish(self, dataset_uuid: str, *, job_id: str, token: int, names: Sequence[str], outcome: Json) -> None:
        """Move `names` from the attempt's folder into place, the old ones aside, durably.

        `outcome` is kept beside them: with it another attempt of the job can finish, if this one dies here.
        Raises `LeaseLost` where a greater token has begun, `NoSpace`, `Unavailable` naming the lock's holder.
        """

    def show(self, dataset_uuid: str, *, token: int) -> None:
        """Move the quick look out of the attempt's folder to where it is seen, until the attempt ends.

        Raises `LeaseLost` where a greater token has begun, `Unavailable`.
        """

    def kept(self, dataset_uuid: str, *, job_id: str) -> Path:
        """The folder of what the job keeps from one attempt to the next; nothing is made or looked for."""

    def arrive(
        self, dataset_uuid: str, *, job_id: str, token: int, files: Path, at: str, listing: Path, outcome: Json
    ) -> None:
        """Move the folder `files` to the place `at` among the sources, and `listing` to where `listing()` says.

        All of it or nothing, durably; "" is the whole of the sources, where there are none yet. `outcome` is kept
        as with `publish`. Raises `LeaseLost`, `InvalidParameters` where files lie there already, `NoSpace`,
        `Unavailable`.
        """

    def arrived(self, dataset_uuid: str) -> Json | None:
        """Which job brought source files last (`job_id`, `token`, `outcome`), or None."""

    def listing(self, dataset_uuid: str, *, token: int) -> Path:
        """Where the list of the files lies that the attempt with `token` brought, until somebody removes it."""

    def forget(self, dataset_uuid: str, *, job_id: str) -> None:
        """Remove what the job kept."""

    def published(self, dataset_uuid: str) -> Json | None:
        """What was published last (`job_id`, `token`, `names`, `outcome`), or None."""

    def abandon(self, dataset_uuid: str, *, token: int) -> None:
        """Remove the attempt's folder."""

    def heal(self, target: ConversionTarget) -> None:
        """Put right what crashes left: what `target.forms` names is in place, another form goes aside.

        For data sets whose published job has ended. The guard's token becomes at least `target.token`; where it
        is greater, a later attempt has begun and no form is moved. Partial folders of older tokens go, and what
        has lain aside for an hour, unless `target.forms` names it.
        """

    def remove(self, dataset_uuid: str, *, token: int) -> None:
        """Remove the data set's folder and all that is left in it; nothing happens where there is none.

        Raises `LeaseLost` where a greater token has begun, `Unavailable`.
        """

    def untidy(self) -> Iterator[str]:
        """Data sets with something that `heal` may remove. Looks at every folder."""
