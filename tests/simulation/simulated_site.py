"""A small installation in a simulated world: intake, workers, care and meddlers on one database, and its promises.

The roles call what the product's programs call, in the same order (`uploads.processor`, `service.attempt`,
`service.care` itself, the portal's routes); only the conversion is a nap, and forms lie in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from simulated_world import Violation, World

from scientistcloud.datasets import catalogue
from scientistcloud.datasets.lifecycle import settled
from scientistcloud.datasets.settling import settle, settle_published, unnamed
from scientistcloud.errors import (
    CallersMistake,
    Cancelled,
    InvalidParameters,
    LeaseLost,
    Transient,
)
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.layout import DataFolder
from scientistcloud.ports import Clock, DatasetStore, FormStore, JobStore, MetaStore, Store, TargetStore
from scientistcloud.records import ConversionTarget, Job, JobStatus, Json, WaitsFor
from scientistcloud.service.care import Care
from scientistcloud.settings import Settings

T = TypeVar("T")
LEASE_SECONDS = 30.0
DATASETS = ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222")
FOREIGN = "33333333-3333-4333-8333-333333333333"
_NOWHERE = Path("/nowhere")
_SETTINGS = Settings(data_dir=_NOWHERE, lease_seconds=LEASE_SECONDS)


class Opened(Protocol):
    """The parts of a `ports.Store` that take part."""

    @property
    def clock(self) -> Clock: ...
    @property
    def jobs(self) -> JobStore: ...
    @property
    def targets(self) -> TargetStore: ...
    @property
    def datasets(self) -> DatasetStore: ...
    @property
    def meta(self) -> MetaStore: ...


class Shared(Protocol):
    """A database that processes open."""

    def process(self) -> Opened: ...
    def insert_five_fields(self, **five: str) -> None: ...
    def close(self) -> None: ...


class MemoryForms:
    """What `ports.FormStore` is asked for here, each call one step, for all processes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tokens: dict[str, int] = {}
        self._published: dict[str, dict[str, Any]] = {}
        self._partial: dict[str, set[int]] = {}

    def begin(self, dataset_uuid: str, *, job_id: str, token: int) -> Path | None:
        self._world.step("before begin")
        if token < self._tokens.get(dataset_uuid, 0):
            raise LeaseLost("a later attempt has begun")
        self._tokens[dataset_uuid] = token
        self._partial[dataset_uuid] = set()
        published = self._published.get(dataset_uuid)
        done = published is not None and published["job_id"] == job_id
        if not done:
            self._partial[dataset_uuid].add(token)
        self._world.step("after begin")
        return None if done else _NOWHERE

    def publish(self, dataset_uuid: str, *, job_id: str, token: int, names: Any, outcome: Json) -> None:
        self._world.step("before publish")
        if token < self._tokens.get(dataset_uuid, 0):
            raise LeaseLost("a later attempt has begun")
        published = self._published.get(dataset_uuid)
        if published is None or published["token"] != token:
            if token not in self._partial[dataset_uuid]:
                raise InvalidParameters("care emptied the folder of an attempt that had lost its job")
            self._published[dataset_uuid] = {"job_id": job_id, "token": token, "names": names, "outcome": outcome}
        self._world.step("after publish")

    def published(self, dataset_uuid: str) -> Json | None:
        self._world.step("before published")
        return self._published.get(dataset_uuid)

    def abandon(self, dataset_uuid: str, *, token: int) -> None:
        self._world.step("before abandon")
        self._partial.get(dataset_uuid, set()).discard(token)

    def heal(self, target: ConversionTarget) -> None:
        self._world.step("before heal")
        known = self._tokens.get(target.uuid, 0)
        if known <= target.token:
            self._tokens[target.uuid] = target.token

    def untidy(self) -> Iterator[str]:
        return iter(())


class Site:
    """The roles, and what has to be true of what they did."""

    def __init__(self, world: World, shared: Shared) -> None:
        self._world = world
        self._shared = shared
        self._forms = MemoryForms(world)
        #: Ids that a creator was told, by key.
        self._told: dict[str, str] = {}
        self._tokens: dict[str, set[int]] = {}
        self._busy = 0
        self._view = shared.process()  # outside of all processes: it dies never
        self._queue = JobQueueManager(cast(Store, self._view))
        for dataset_uuid in DATASETS:
            catalogue.open_dataset(cast(Store, self._view), user="a@b", name="d", dataset_uuid=dataset_uuid)
            catalogue.close(cast(Store, self._view), dataset_uuid, convert=False)
        shared.insert_five_fields(
            job_id="foreign", dataset_uuid=FOREIGN, job_type="file_extraction", status="pending", parameters="{}"
        )

    def run(self, *, conversions: int, others: int, workers: int, meddles: int) -> None:
        """Raises `Violation`."""
        world = self._world
        for number, dataset_uuid in enumerate(DATASETS):
            self._start(f"intake{number}", self._intake(dataset_uuid, conversions))
        self._start("creator", self._creator(others))
        self._start("meddler", self._meddler(meddles))
        for number in range(workers):
            world.start(f"worker{number}", self._worker)
        for number in range(2):
            world.start(f"care{number}", self._care)
        noticed = _Noticed(logging.ERROR)
        logger = logging.getLogger("scientistcloud")
        logger.addHandler(noticed)
        try:
            world.run(until=self._all_is_done, look_seconds=30, patience_seconds=7200)
        finally:
            logger.removeHandler(noticed)
            world.end()
        if noticed.said:
            raise Violation(f"a program met what it did not expect: {noticed.said[0]}")
        self._check()

    # -- roles -----------------------------------------------------------------------------------

    def _start(self, name: str, run: Callable[[str], None]) -> None:
        """A role that comes to an end."""
        self._busy += 1

        def until_done(name: str) -> None:
            run(name)
            self._busy -= 1

        self._world.start(name, until_done)

    def _intake(self, dataset_uuid: str, conversions: int) -> Callable[[str], None]:
        """Asks for conversions, each once: what it leaves half done when it dies is care's."""
        asked = iter(range(conversions))

        def run(_: str) -> None:
            world, store = self._world, self._opened()
            queue = JobQueueManager(store)
            for request in asked:
                with suppress(Transient):
                    dataset = catalogue.want_conversion(store, dataset_uuid, request=f"r{request}")
                    if dataset.wanted is not None:
                        key = dataset.wanted.idempotency_key
                        self._told[key] = queue.create_job(
                            dataset_uuid=dataset_uuid,
                            job_type=dataset.wanted.job_type,
                            parameters=dataset.wanted.parameters,
                            idempotency_key=key,
                        )
                        world.tell(f"created {key}")
                        settle(store, dataset_uuid)
                world.sleep(world.dice.choice((0.01, 0.5, 20.0, 60.0)))

        return run

    def _creator(self, jobs: int) -> Callable[[str], None]:
        """Creates many at once, and calls again with the same keys until it is answered."""
        dice = self._world.dice
        wanted: list[dict[str, Any]] = [
            {
                "dataset_uuid": dice.choice(DATASETS),
                "job_type": "file_extraction",
                "parameters": {},
                "priority": dice.choice((1, 2, 3)),
                "max_attempts": dice.choice((1, 2, 5)),
                "idempotency_key": f"other {number}",
                "delay": dice.choice((0, 0, 15, 90)),
            }
            for number in range(jobs)
        ]

        def run(_: str) -> None:
            world, store = self._world, self._opened()
            queue = JobQueueManager(store)
            while wanted:
                some = wanted[: dice.choice((1, 1, 3))]
                now = world.clock.now()
                calls = [
                    {name: value for name, value in each.items() if name != "delay"}
                    | ({"run_at": now + timedelta(seconds=each["delay"])} if each["delay"] else {})
                    for each in some
                ]
                ids = self._insist(lambda calls=calls: queue.create_jobs(calls))  # type: ignore[misc]
                for each, job_id in zip(some, ids, strict=True):
                    self._told[str(each["idempotency_key"])] = job_id
                del wanted[: len(some)]
                for each in some:
                    with suppress(Transient):
                        settle(store, str(each["dataset_uuid"]))
                world.sleep(dice.choice((0.01, 1.0, 30.0)))

        return run

    def _meddler(self, times: int) -> Callable[[str], None]:
        """Cancels and retries, as people do on pages."""
        left = iter(range(times))

        def run(_: str) -> None:
            world, store = self._world, self._opened()
            queue = JobQueueManager(store)
            for _number in left:
                world.sleep(world.dice.uniform(1, 60))
                if not self._told:
                    continue
                job_id = world.dice.choice(sorted(self._told.values()))
                call = world.dice.choice((queue.cancel_job, queue.retry_job))
                with suppress(CallersMistake, Transient):
                    job = call(job_id)
                    world.tell(f"{call.__name__} {job_id[:8]}: {job.status}")
                    settle(store, job.dataset_uuid)

        return run

    def _worker(self, name: str) -> None:
        store = self._opened()
        queue = JobQueueManager(store, lease_seconds=LEASE_SECONDS)
        nap = 0.5
        while True:
            job: Job | None = None
            with suppress(Transient):
                job = queue.get_next_job(name)
            nap = min(2 * nap, 16.0) if job is None else 0.5
            while job is not None:
                self._note_claim(job)
                job = self._attempt(store, queue, job)
            self._world.sleep(self._world.dice.uniform(0.5, 1.0) * nap)

    def _attempt(self, store: Store, queue: JobQueueManager, job: Job) -> Job | None:
        """See `service.attempt.Attempt`; the next job where it was claimed along."""
        world, uuid, token = self._world, job.dataset_uuid, job.token
        try:
            self._insist(lambda: queue.heartbeat(job))
            target = self._insist(lambda: store.targets.get(uuid))
            form: dict[str, Any] | None = None
            if target is not None:
                self._insist(lambda: settle(store, uuid, token=token))
                forms = cast(FormStore, self._forms)
                self._insist(lambda: settle_published(store, forms, uuid, token=token))
            if job.job_type == "dataset_conversion":
                if self._forms.begin(uuid, job_id=job.job_id, token=token) is not None:
                    self._work(queue, job)
                    form = {"job_id": job.job_id, "token": token}
                    self._forms.publish(
                        uuid, job_id=job.job_id, token=token, names=["f"], outcome={"form": form, "sensor": None}
                    )
                published = self._forms.published(uuid)
                assert published is not None
                form = published["outcome"]["form"]
            else:
                self._work(queue, job)
            claim_next = world.dice.random() < 0.5
            following = self._insist(lambda: queue.complete_job(job, {"token": token}, claim_next=claim_next))
            world.tell(f"completed {job.job_id[:8]} with {token}")
            with suppress(LeaseLost):
                self._insist(lambda: settle(store, uuid, token=token, form=form))
            return following
        except LeaseLost:
            return None
        except Cancelled:
            self._end(store, job, lambda: queue.acknowledge_cancel(job))
        except (_Failed, CallersMistake) as failed:
            for_good = isinstance(failed, CallersMistake)
            self._end(store, job, lambda: queue.fail_job(job, "it did not work", permanent=for_good))
        except _Drained:
            self._end(store, job, lambda: queue.release_job(job))
        return None

    def _work(self, queue: JobQueueManager, job: Job) -> None:
        dice = self._world.dice
        for _ in range(dice.randrange(3)):
            self._world.sleep(dice.choice((0.1, 3.0, 10.0)))
            self._insist(lambda: queue.heartbeat(job, progress=0.5))
        drawn = dice.random()
        if drawn < 0.15:
            raise _Failed
        if drawn < 0.2:
            raise _Drained

    def _end(self, store: Store, job: Job, end: Callable[[], Job]) -> None:
        with suppress(LeaseLost):
            self._forms.abandon(job.dataset_uuid, token=job.token)
            self._insist(end)
            self._insist(lambda: settle(store, job.dataset_uuid, token=job.token))

    def _care(self, name: str) -> None:
        store = self._opened()
        care = Care(
            store,
            queue=JobQueueManager(store),
            forms=cast(FormStore, self._forms),
            folder=DataFolder(_NOWHERE),
            worker_id=name,
            settings=_SETTINGS,
        )
        while True:
            care.round()
            self._world.sleep(care.pause_seconds)

    def _insist(self, call: Callable[[], T]) -> T:
        """Again and again while the database does not answer, for less than a lease."""
        for pause in (0.05, 0.2, 1.0, 2.0, 5.0, 5.0):
            try:
                return call()
            except Transient:
                self._world.sleep(pause)
        raise LeaseLost("the database did not answer")

    def _opened(self) -> Store:
        return cast(Store, self._shared.process())

    # -- promises --------------------------------------------------------------------------------

    def _note_claim(self, job: Job) -> None:
        self._world.tell(f"claimed {job.job_id[:8]} of {job.dataset_uuid[:2]} with {job.token}")
        seen = self._tokens.setdefault(job.dataset_uuid, set())
        if job.token in seen:
            raise Violation(f"token {job.token} was given out twice")
        seen.add(job.token)
        with self._world.aside():
            running = self._queue.list_jobs(dataset_uuid=job.dataset_uuid, status="running")
        if len(running) > 1:
            raise Violation(f"{len(running)} jobs of a data set run at once")

    def _all_is_done(self) -> bool:
        if self._busy:
            return False
        if any(not job.status.ended for job in self._queue.list_jobs(limit=1000)):
            return False
        return all(target.wanted is None and self._agrees(target) for target in self._view.targets.all())

    def _agrees(self, target: ConversionTarget) -> bool:
        if settled(target, self._view.jobs.line(target.uuid)) != target:
            return False
        # Care owes the record a form whose worker died before writing it down.
        found = unnamed(cast(Store, self._view), cast(FormStore, self._forms), target)
        return found is None or not found.owed

    def _check(self) -> None:
        jobs = {job.job_id: job for job in self._queue.list_jobs(limit=1000)}
        for key, job_id in self._told.items():
            if job_id not in jobs:
                raise Violation(f"the job {key} was lost")
        keys = [job.idempotency_key for job in jobs.values() if job.idempotency_key]
        if len(keys) != len(set(keys)):
            raise Violation("a key made two jobs")
        for job in jobs.values():
            outcomes = [attempt.outcome for attempt in job.history]
            if outcomes.count("completed") != (job.status is JobStatus.COMPLETED):
                raise Violation(f"{job.job_id} is {job.status} after {outcomes}")
            if job.status is JobStatus.COMPLETED and job.result != {"token": job.token}:
                raise Violation(f"{job.job_id} ended with the result of another attempt: {job.result}")
            if job.waits_for is not None or job.head is not None:
                raise Violation(
                    f"{job.job_id} has ended and still waits for {WaitsFor(job.waits_for or 'nothing')}"
                )
        for dataset_uuid in (*DATASETS, FOREIGN):
            self._check_line([job for job in jobs.values() if job.dataset_uuid == dataset_uuid])
        if {job.job_id for job in jobs.values() if job.dataset_uuid == FOREIGN} != {"foreign"}:
            raise Violation("the job of another client was not adopted once")
        for target in self._view.targets.all():
            done = [
                job
                for job in jobs.values()
                if job.dataset_uuid == target.uuid
                and job.job_type == "dataset_conversion"
                and job.status is JobStatus.COMPLETED
            ]
            newest = max(done, key=lambda job: job.token, default=None)
            shown = target.forms[-1]["job_id"] if target.forms else None
            if shown != (newest and newest.job_id):
                raise Violation(f"data set {target.uuid} shows the form of {shown}, not of {newest}")

    def _check_line(self, jobs: list[Job]) -> None:
        """No two accepted runs of a data set overlap, and those that joined at once ran in their order."""
        ran = [job for job in jobs if job.status is JobStatus.COMPLETED]
        ran.sort(key=lambda job: job.history[-1].finished_at)
        for earlier, later in pairwise(ran):
            if later.history[-1].started_at < earlier.history[-1].finished_at:
                raise Violation(f"{earlier.job_id} and {later.job_id} ran at once")
            if later.token <= earlier.token:
                raise Violation(f"{later.job_id} ran after {earlier.job_id} with a smaller token")
        prompt = [job for job in ran if job.run_at <= job.created_at or job.attempt > 1]
        at_once = [job for job in prompt if job.idempotency_key and job.idempotency_key.startswith("convert:")]
        if [job.seq for job in at_once] != sorted(job.seq for job in at_once):
            raise Violation(f"out of order: {[(job.job_id, job.seq) for job in at_once]}")


class _Failed(Exception):
    """The work did not succeed."""


class _Drained(Exception):
    """The service is to end."""


class _Noticed(logging.Handler):
    """What was logged as an error."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            said += f" ({record.exc_info[1]!r})"
        self.said.append(said)
