"""The background service: claims jobs, runs each in a process of its own, ends softly.

Its threads: the one that called `run` claims; one for each attempt; one keeps their leases; one takes care of
queue and data sets, where this worker is the elected one. Only this process opens the database. Each sleeps until
it is needed: an idle worker wakes for what has to be looked at, and for nothing else.
"""

from __future__ import annotations

import logging
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from scientistcloud.assembly import open_forms
from scientistcloud.errors import Transient
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.logs import facts
from scientistcloud.ports import Store
from scientistcloud.records import Job
from scientistcloud.service import presence
from scientistcloud.service.attempt import Attempt
from scientistcloud.service.care import Care
from scientistcloud.service.neighbours import LOOK_SECONDS, Neighbours
from scientistcloud.service.runner import Runner
from scientistcloud.service.tally import Tally
from scientistcloud.service.tracing import tracing
from scientistcloud.service.workplace import Workplace
from scientistcloud.settings import Settings, read_settings

logger = logging.getLogger(__name__)

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
        #: Set when an attempt begins.
        self._begun = threading.Event()
        # How often the end was asked for. A number and no Event: signal handlers set it, and an Event's lock
        # could be held by the very code that they interrupt.
        self._stops = 0
        self._stopping = threading.Event()
        self._ended = threading.Event()
        #: Known once it runs, as its name is.
        self._neighbours: Neighbours

    def run(self) -> None:
        """Work until `stop`, SIGTERM or SIGINT: the first lets running jobs end, the second gives them back.

        Raises `InvalidSettings`, `IncompatibleInstallation`, `BrokenPlugin` where it cannot start.
        """
        with ExitStack() as stack:
            presence.check_database_is_here(self.store, lease_seconds=self.settings.lease_seconds)
            self.worker_id = stack.enter_context(presence.worker_name(self.folder, self.worker_id or None))
            presence.check_installation(self.store, self.folder)
            self.store.share_bell(self.folder.bell)
            stack.callback(self._tracing.close)
            stack.callback(self._runner.stop)
            self._runner.start()
            self._neighbours = Neighbours(
                self.store,
                folder=self.folder,
                worker_id=self.worker_id,
                slots=self.slots,
                runner=self._runner,
                tally=self._tally,
                lease_seconds=self.settings.lease_seconds,
            )
            stack.callback(self._neighbours.leave)
            self._neighbours.join()
            stack.enter_context(self._signals())
            stack.enter_context(self._beside(self._keep_leases, "pulse"))
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
        threading.Thread(target=self._wake_for_the_end, name="stop").start()

    def _wake_for_the_end(self) -> None:
        """Have the thread that claims see that it is to end, wherever it waits."""
        self._stopping.set()
        self._free.release()
        self.store.jobs.rouse()

    # -- claiming ----------------------------------------------------------------------------------

    def _process_jobs(self) -> None:
        """Claim a job whenever a slot is free, of any data set."""
        self._free.acquire()
        while (job := self._next_job()) is not None:
            self._start(job)
            self._free.acquire()

    def _next_job(self) -> Job | None:
        """Claim the next job as soon as there is one; None once the end was asked for."""
        failures = 0
        since = self.store.clock.now()
        while not self._stops:
            looks_at = self.store.clock.now()
            try:
                job = self.job_queue.get_next_job(self.worker_id, job_types=self._types_below_their_limit())
                if job is not None:
                    self._tally.claimed(job, waited_since=since)
                    return job
                since = looks_at
                self._neighbours.look()
                self.store.jobs.wait(LOOK_SECONDS)
                failures = 0
            except Transient as failed:
                failures += 1
                self._tally.outage()
                pause = min(0.1 * 2**failures, _LONGEST_PAUSE_SECONDS) * random.uniform(0.5, 1)  # noqa: S311  jitter
                self._say(
                    logging.WARNING, "no answer to a claim, trying again", seconds=f"{pause:.1f}", reason=failed
                )
                self._stopping.wait(pause)
        return None

    def _types_below_their_limit(self) -> list[str]:
        running = Counter(attempt.job.job_type for attempt in list(self._running))
        limits = self.settings.job_type_limits
        return [each for each in self._runner.job_types if running[each] < limits.get(each, self.slots)]

    def _start(self, job: Job) -> None:
        attempt = Attempt(self._place, job)
        thread = threading.Thread(target=self._see_through, args=(attempt,), name=f"attempt-{job.job_id}")
        self._running[attempt] = thread
        self._begun.set()
        thread.start()

    def _see_through(self, attempt: Attempt) -> None:
        try:
            attempt.run()
        finally:
            del self._running[attempt]
            self._free.release()
            if self.settings.job_type_limits:
                self.store.jobs.rouse()  # who waits for other types may claim this one again

    def _drain(self) -> None:
        """Wait for what runs; end it once the end was asked for again."""
        if self._running:
            self._say(logging.INFO, "draining", running=len(self._running))
        while running := dict(self._running):
            if self._stops > 1:
                for attempt in running:
                    attempt.cut()
            next(iter(running.values())).join(_PULSE_SECONDS)

    # -- beside it ---------------------------------------------------------------------------------

    def _keep_leases(self) -> None:
        """While something runs; while nothing does, the thread that claims sees to the neighbours."""
        while not self._ended.is_set():
            self._begun.wait()
            self._begun.clear()
            while self._running and not self._ended.wait(_PULSE_SECONDS):
                for attempt in list(self._running):
                    attempt.pulse()
                self._neighbours.look()

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
                self._wake_for_the_end()

        thread = threading.Thread(target=run, name=name)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            self._begun.set()
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
