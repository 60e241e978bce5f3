"""What moves: one watcher asks the database for a change while a page is open, and every stream looks again.

There is no log of events and no queue for a client: a stream compares what is there now with what it sent last,
so a slow client gets the newest state and never a backlog, and one that comes back begins with the state.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from scientistcloud.access.rules import Action, may
from scientistcloud.errors import Transient
from scientistcloud.jobs.handling import Obstacle, living, obstacle
from scientistcloud.ports import Store
from scientistcloud.records import Dataset, DatasetStatus, Job, Person, WaitsFor, Worker

LOOK_SECONDS = 0.1
"""How often the database is asked whether anything changed; the question costs microseconds."""
PAUSE_SECONDS = 0.25
"""Between two messages about one job: at most four a second."""
AT_WORK = (
    DatasetStatus.UPLOADING,
    DatasetStatus.UPLOAD_QUEUED,
    DatasetStatus.UNZIPPING,
    DatasetStatus.CONVERSION_QUEUED,
    DatasetStatus.CONVERTING,
)
MOST_ROWS = 200


@dataclass(frozen=True, slots=True)
class Row:
    """A data set and the job that matters most to it: the running one, else the head, else the newest."""

    dataset: Dataset
    job: Job | None
    #: What keeps the job, whose turn has come, from being done.
    obstacle: Obstacle | None = None

    @property
    def structure(self) -> str:
        """What changes the look of a page, progress left out but for where a quick look may have appeared."""
        job = self.job
        return repr(
            (self.dataset.uuid, self.dataset.version, self.dataset.status, self.dataset.name, self.obstacle)
            + ((job.job_id, job.status, job.attempt, job.waits_for, job.cancel_requested) if job else ())
            + ((job.progress.step.startswith("writing"),) if job else ())
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one person's page may show of what moves."""

    #: By uuid, newest first.
    rows: Mapping[str, Row]
    counts: Mapping[DatasetStatus, int]

    @property
    def structure(self) -> str:
        """Equal for two snapshots whose pages differ in progress alone."""
        facts = [row.structure for row in self.rows.values()] + [
            f"{key}={self.counts[key]}" for key in sorted(self.counts)
        ]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def snapshot(store: Store, person: Person, dataset_uuid: str | None = None) -> Snapshot:
    """What of the person's is at work now; with `dataset_uuid`, that one data set whatever it does."""
    counts: Mapping[DatasetStatus, int] = {}
    if dataset_uuid is None:
        datasets = store.datasets.find(user=person.email, statuses=AT_WORK, limit=MOST_ROWS)
        counts = store.datasets.counts(user=person.email)
    else:
        found = store.datasets.get(dataset_uuid)
        datasets = [found] if found is not None and may(person, found, Action.FOLLOW) else []
    return Snapshot({row.dataset.uuid: row for row in rows_of(store, datasets)}, counts)


def rows_of(store: Store, datasets: Sequence[Dataset]) -> list[Row]:
    """Each of `datasets` with the job that matters most to it, and what keeps that from being done."""
    jobs = store.jobs.current([dataset.uuid for dataset in datasets])
    about = _Obstacles(store)
    return [Row(each, job, about.of(job)) for each in datasets for job in [jobs.get(each.uuid)]]


def row_of(store: Store, dataset: Dataset, job: Job) -> Row:
    """`dataset` with this job of it."""
    return Row(dataset, job, _Obstacles(store).of(job))


class _Obstacles:
    """Reads who works and what is paused, once, and only for a job that could run."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: tuple[Sequence[str], list[Worker]] | None = None

    def of(self, job: Job | None) -> Obstacle | None:
        if job is None or job.waits_for is not WaitsFor.NOTHING:
            return None
        if self._known is None:
            workers = living(self._store.workers.all(), now=self._store.clock.now())
            self._known = self._store.jobs.paused(), workers
        paused, workers = self._known
        return obstacle(job.job_type, paused=paused, workers=workers)


@dataclass(frozen=True, slots=True)
class Change:
    """What a stream has to tell."""

    now: Snapshot
    #: More than progress changed: a page looks different.
    structure: bool
    #: Rows that are new or other than those sent before.
    rows: tuple[Row, ...]


class Watcher:
    """Wakes the streams of this process when any process has committed something."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._streams = 0
        self._looking: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self.closed = asyncio.Event()

    async def changes(
        self, person: Person, *, dataset_uuid: str | None = None, seen: str = ""
    ) -> AsyncIterator[Change]:
        """The state at once, then each change of it, until `close`.

        `seen` is the structure that the page was made from: where it is still so, the first change says so.
        """
        sent: Mapping[str, Row] = {}
        self._streams += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(self._store.change_mark()))
        try:
            while not self.closed.is_set():
                changed = self._changed  # taken before the look, so that nothing falls in between
                now = await run_in_threadpool(snapshot, self._store, person, dataset_uuid)
                rows = tuple(row for uuid, row in now.rows.items() if sent.get(uuid) != row)
                if rows or now.structure != seen:
                    yield Change(now, now.structure != seen, rows)
                sent, seen = now.rows, now.structure
                await changed.wait()
                await self._pause()
        finally:
            self._streams -= 1
            if self._streams == 0 and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    def close(self) -> None:
        """End every stream; for the loop's own thread."""
        self.closed.set()
        self._changed.set()

    async def _pause(self) -> None:
        if not self.closed.is_set():
            await asyncio.sleep(PAUSE_SECONDS)

    async def _look(self, mark: object) -> None:
        while not self.closed.is_set():
            await asyncio.sleep(LOOK_SECONDS)
            try:
                now = self._store.change_mark()
            except Transient:
                continue  # the streams look again once it answers
            if now != mark:
                mark = now
                self._changed.set()
                self._changed = asyncio.Event()
