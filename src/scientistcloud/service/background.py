"""The background service: claims jobs, runs each in a process of its own, ends softly.

Its threads: the one that called `run` claims; one for each attempt; one keeps their leases; one takes care of
queue and data sets, where this worker is the elected one. Only this process opens the database.
"""

from __future__ import annotations

import logging
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType

from scientistcloud import __version__
from scientistcloud.assembly import open_forms
from scientistcloud.datasets.settling import settle
from scientistcloud.errors import LeaseLost, ScientistCloudError, Transient
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.logs import facts
from scientistcloud.ports import Store
from scientistcloud.records import Job, JobError, JobStatus, Worker
from scientistcloud.service import presence
from scientistcloud.service.attempt import Attempt
from scientistcloud.service.care import Care
from scientistcloud.service.runner import Runner
from scientistcloud.service.tally import Tally
from scientistcloud.service.tracing import tracing
from scientistcloud.service.workplace import Workplace
from scientistcloud.settings import Settings, read_settings

logger = logging.getLogger(__name__)

_WAIT_SECONDS = 1.0
_PULSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 10.0


class BackgroundService:
    """Works on the jobs of `store`, whoever's data sets they belong to.

    Parameters
    ----------
    store
        Opened by `scientistcloud.open_store`; it stays the caller's to close.
    data_dir
        The data folder, the same on all machines.
    slots
        How many jobs run at once here.
    worker_id
        Names this service; a second one of that name is refused. None: the first free name of this host.
    settings
        None: read from the environment and the data folder.
    tasks
        ``module:attribute`` of what can be done; None: every task that an installed package offers. Jobs of
        other types are left to other workers.
    """

    def __init__(
        self,
        store: Store,
        *,
        data_dir: Path | str,
        slots: int = 1,
        worker_id: str | None = None,
        settings: Settings | None = None,
        tasks: Sequence[str] | None = None,
    ) -> None:
        self.store = store
        self.slots = slots
        self.worker_id = worker_id or ""
        self.settings = settings or read_settings(data_dir=Path(data_dir))
        self.folder = self.settings.folder
        lease = self.settings.lease_seconds
        self.job_queue = JobQueueManager(
            store, lease_seconds=lease, max_parameters_bytes=self.settings.max_parameters_bytes
        )
        self._tally = Tally()
        store.jobs.on_loss(self._tally.lost)
        self._tracing = tracing()
        self._runner = Runner(tasks=tasks, silence_seconds=lease)
        self._place = Workplace(
            store=store,
            queue=self.job_queue,
            forms=open_forms(self.folder.root, wait_seconds=lease),
            runner=self._runner,
            tally=self._tally,
            tracing=self._tracing,
            folder=self.folder,
            lease_seconds=lease,
            stall_seconds=self.settings.stall_seconds,
            memory_bytes=self.settings.slot_memory_bytes,
            file_bytes=self.settings.slot_file_bytes or self.settings.max_upload_bytes,
            log_bytes=self.settings.log_bytes,
            allowed=self.settings.for_tasks,
            register_roots=self.settings.register_folders,
        )
        self._running: dict[Attempt, threading.Thread] = {}
        self._free = threading.Semaphore(slots)
        self._looking = False
        self._at_end = ExitStack()
        # How often the end was asked for. A number and no Event: signal handlers set it, and an Event's lock
        # could be held by the very code that they interrupt.
        self._stops = 0
        self._ended = threading.Event()

    def run(self) -> None:
        """Work until `stop`, SIGTERM or SIGINT: the first lets running jobs end, the second gives them back.

        Raises `InvalidSettings`, `IncompatibleInstallation`, `BrokenPlugin` where it cannot start.
        """
        with ExitStack() as stack:
            presence.check_database_is_here(self.store, lease_seconds=self.settings.lease_seconds)
            self.worker_id = stack.enter_context(presence.worker_name(self.folder, self.worker_id or None))
            presence.check_installation(self.store, self.folder)
            stack.callback(self._tracing.close)
            stack.enter_context(self._at_end)
            stack.callback(self._runner.stop)
            self._runner.start()
            started_at = self.store.clock.now()
            self._announce(started_at)
            stack.callback(self._leave)
            stack.callback(lambda: self._tally.hand_over(self.store.counters))
            self._take_back_from_dead(predecessor=True)
            stack.enter_context(self._signals())
            stack.enter_context(self._beside(lambda: self._keep_leases(started_at), "pulse"))
            stack.enter_context(self._beside(self._take_care, "care"))
            if unknown := sorted(set(self.settings.job_type_limits) - set(self._runner.job_types)):
                self._say(
                    logging.WARNING, "a limit for job types that are not handled here", types=",".join(unknown)
                )
            self._say(logging.INFO, "worker started", slots=self.slots, data_dir=self.folder.root)
            try:
                self._process_jobs()
            except BaseException:
                self._stops = 2
                raise
            finally:
                self._drain()
            self._say(logging.INFO, "worker ended")

    def stop(self) -> None:
        """Claim nothing more; called again: end what runs and give it back. Safe in a signal handler."""
        self._stops += 1

    # -- claiming ----------------------------------------------------------------------------------

    def _process_jobs(self) -> None:
        """Claim a job whenever a slot is free, of any data set."""
        failures = 0
        while not self._stops:
            if not self._free.acquire(timeout=_PULSE_SECONDS):
                continue
            job = None
            since = self.store.clock.now()
            try:
                job_types = self._types_below_their_limit()
                all_types = len(job_types) == len(self._runner.job_types)
                job = self.job_queue.get_next_job(
                    self.worker_id,
                    job_types=job_types,
                    # One that is at its limit may be below it soon.
                    wait_seconds=_WAIT_SECONDS if all_types else _PULSE_SECONDS,
                )
                failures = 0
            except Transient as failed:
                failures += 1
                self._tally.outage()
                pause = min(0.1 * 2**failures, _LONGEST_PAUSE_SECONDS) * random.uniform(0.5, 1)  # noqa: S311  jitter
                self._say(
                    logging.WARNING, "no answer to a claim, trying again", seconds=f"{pause:.1f}", reason=failed
                )
                self._ended.wait(pause)
            finally:
                if job is None:
                    self._free.release()
            if job is not None:
                self._tally.claimed(job, waited_since=since)
                self._start(job)

    def _types_below_their_limit(self) -> list[str]:
        running = Counter(attempt.job.job_type for attempt in list(self._running))
        limits = self.settings.job_type_limits
        return [each for each in self._runner.job_types if running[each] < limits.get(each, self.slots)]

    def _start(self, job: Job) -> None:
        attempt = Attempt(self._place, job)
        thread = threading.Thread(target=self._see_through, args=(attempt,), name=f"attempt-{job.job_id}")
        self._running[attempt] = thread
        thread.start()

    def _see_through(self, attempt: Attempt) -> None:
        try:
            attempt.run()
        finally:
            del self._running[attempt]
            self._free.release()

    def _drain(self) -> None:
        """Wait for what runs; end it once the end was asked for again."""
        if self._running:
            self._say(logging.INFO, "draining", running=len(self._running))
        while running := list(self._running.items()):
            for attempt, thread in running:
                if self._stops > 1:
                    attempt.cut()
                thread.join(_PULSE_SECONDS)

    # -- beside it ---------------------------------------------------------------------------------

    def _keep_leases(self, started_at: datetime) -> None:
        lease = self.settings.lease_seconds
        looked = announced = self.store.clock.monotonic()
        at_rest = min(1.0, lease / 6)
        while not self._ended.wait(_PULSE_SECONDS if self._running else at_rest):
            for attempt in list(self._running):
                attempt.pulse()
            now = self.store.clock.monotonic()
            if now - announced >= min(lease / 3, 10):
                announced = now
                self._announce(started_at)
                self._tally.hand_over(self.store.counters)
            if now - looked >= 1:
                looked = now
                self._take_back_from_dead()

    def _take_care(self) -> None:
        care = Care(
            self.store,
            queue=self.job_queue,
            forms=self._place.forms,
            folder=self.folder,
            worker_id=self.worker_id,
            settings=self.settings,
            stopped=self._ended.is_set,
        )
        care.round()
        while not self._ended.wait(care.pause_seconds):
            care.round()
        care.leave()

    def _announce(self, started_at: datetime) -> None:
        entry = Worker(
            worker_id=self.worker_id,
            host=presence.host(),
            slots=self.slots,
            job_types=self._runner.job_types,
            sensors=self._runner.sensors,
            version=__version__,
            started_at=started_at,
            last_seen=self.store.clock.now(),
        )
        try:
            self.store.workers.announce(entry)
        except ScientistCloudError as failed:
            self._say(logging.WARNING, "worker not announced", reason=failed)

    def _leave(self) -> None:
        try:
            self.store.workers.leave(self.worker_id)
        except ScientistCloudError as failed:
            self._say(logging.WARNING, "worker's entry not removed", reason=failed)

    def _take_back_from_dead(self, *, predecessor: bool = False) -> None:
        """Give out again at once what workers of this host left behind: a lock that can be had tells of a death.

        `predecessor`: also the one of this name. Only at the start, for then nothing of ours runs.
        """
        try:
            if predecessor:
                self._take_back(self.worker_id)
            if self._looks_for_dead():
                self._look_for_dead()
        except (ScientistCloudError, OSError) as failed:
            self._say(logging.WARNING, "jobs of dead workers not looked for", reason=failed)

    def _looks_for_dead(self) -> bool:
        """Whether this worker is the one of its host that looks: who has the lock keeps it for its life."""
        if not self._looking:
            with ExitStack() as trial:
                if trial.enter_context(presence.lock_of(self.folder.worker_lock(f"looks-{presence.host()}"))):
                    self._looking = True
                    self._at_end.push(trial.pop_all())
        return self._looking

    def _look_for_dead(self) -> None:
        for worker in self.store.workers.all():
            if worker.worker_id != self.worker_id and worker.host == presence.host():
                with presence.lock_of(self.folder.worker_lock(worker.worker_id)) as dead:
                    if dead:
                        self._take_back(worker.worker_id)
                        self.store.workers.leave(worker.worker_id)

    def _take_back(self, dead: str) -> None:
        for job in self.store.jobs.find(status=JobStatus.RUNNING, limit=10_000):
            if job.worker_id != dead:
                continue
            self._say(
                logging.WARNING,
                "worker died, its job is given out again",
                dataset_uuid=job.dataset_uuid,
                job_id=job.job_id,
                dead=dead,
            )
            error = JobError(type="WorkerLost", message=f"worker {dead} ended while it worked; see what ended it")
            try:
                self.store.jobs.fail(job, error, retry_after_seconds=0)
                self._tally.lost(job)
                settle(self.store, job.dataset_uuid)
            except LeaseLost:
                continue  # its lease ran out meanwhile

    def _say(self, level: int, event: str, **more: object) -> None:
        logger.log(level, "%s%s", event, facts(worker_id=self.worker_id, **more))

    @contextmanager
    def _beside(self, what: Callable[[], None], name: str) -> Iterator[None]:
        """`what` in a thread for as long as the block lasts; an error in it ends the service."""

        def run() -> None:
            try:
                what()
            except BaseException:
                logger.exception("%s broke, the worker ends%s", name, facts(worker_id=self.worker_id))
                self._stops = 2

        thread = threading.Thread(target=run, name=name)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop, where this is the main thread, which alone hears them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def heard(_number: int, _frame: FrameType | None) -> None:
            self.stop()

        before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
