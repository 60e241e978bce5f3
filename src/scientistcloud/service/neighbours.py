"""A worker among the others: its entry in the database, and what those of its host left behind that died."""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack

from scientistcloud import __version__
from scientistcloud.datasets.settling import settle
from scientistcloud.errors import LeaseLost, ScientistCloudError
from scientistcloud.layout import DataFolder
from scientistcloud.logs import facts
from scientistcloud.ports import Store
from scientistcloud.records import JobError, JobStatus, Worker
from scientistcloud.service import presence
from scientistcloud.service.runner import Runner
from scientistcloud.service.tally import Tally

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""So often the dead are looked for; whoever calls `look` more often does no harm."""


class Neighbours:
    """What `worker_id` tells the others, and does for them, from `join` to `leave`."""

    def __init__(
        self,
        store: Store,
        *,
        folder: DataFolder,
        worker_id: str,
        slots: int,
        runner: Runner,
        tally: Tally,
        lease_seconds: float,
    ) -> None:
        self._store = store
        self._folder = folder
        self._worker_id = worker_id
        self._slots = slots
        self._runner = runner
        self._tally = tally
        self._announce_seconds = min(lease_seconds / 3, 10)
        self._started_at = store.clock.now()
        self._looked_at = self._announced_at = store.clock.monotonic()
        self._one_at_a_time = threading.Lock()
        # Held by the one of its host that looks for the dead.
        self._duty = ExitStack()
        self._on_duty = False

    def join(self) -> None:
        """Be known, and take back what an earlier worker of this name left: nothing of ours runs yet."""
        self._announce()
        self._take_back_from_dead(predecessor=True)

    def look(self) -> None:
        """Do what is due by now. Several threads may call it, as often as they like; it raises nothing."""
        if not self._one_at_a_time.acquire(blocking=False):
            return
        try:
            now = self._store.clock.monotonic()
            if now - self._announced_at >= self._announce_seconds:
                self._announced_at = now
                self._announce()
                self._tally.hand_over(self._store.counters)
            if now - self._looked_at >= LOOK_SECONDS:
                self._looked_at = now
                self._take_back_from_dead()
        finally:
            self._one_at_a_time.release()

    def leave(self) -> None:
        """Be known no more."""
        self._tally.hand_over(self._store.counters)
        try:
            self._store.workers.leave(self._worker_id)
        except ScientistCloudError as failed:
            self._warn("worker's entry not removed", reason=failed)
        self._duty.close()

    # -- details -----------------------------------------------------------------------------------

    def _announce(self) -> None:
        entry = Worker(
            worker_id=self._worker_id,
            host=presence.host(),
            slots=self._slots,
            job_types=self._runner.job_types,
            sensors=self._runner.sensors,
            version=__version__,
            started_at=self._started_at,
            last_seen=self._store.clock.now(),
        )
        try:
            self._store.workers.announce(entry)
        except ScientistCloudError as failed:
            self._warn("worker not announced", reason=failed)

    def _take_back_from_dead(self, *, predecessor: bool = False) -> None:
        """Give out again at once what workers of this host left behind: a lock that can be had tells of a death."""
        try:
            if predecessor:
                self._take_back(self._worker_id)
            if self._is_on_duty():
                self._look_for_dead()
        except (ScientistCloudError, OSError) as failed:
            self._warn("jobs of dead workers not looked for", reason=failed)

    def _is_on_duty(self) -> bool:
        """Whether this worker is the one of its host that looks: who has the lock keeps it for its life."""
        if not self._on_duty:
            with ExitStack() as trial:
                if trial.enter_context(presence.lock_of(self._folder.worker_lock(f"looks-{presence.host()}"))):
                    self._on_duty = True
                    self._duty.push(trial.pop_all())
        return self._on_duty

    def _look_for_dead(self) -> None:
        for worker in self._store.workers.all():
            if worker.worker_id != self._worker_id and worker.host == presence.host():
                with presence.lock_of(self._folder.worker_lock(worker.worker_id)) as dead:
                    if dead:
                        self._take_back(worker.worker_id)
                        self._store.workers.leave(worker.worker_id)

    def _take_back(self, dead: str) -> None:
        for job in self._store.jobs.find(status=JobStatus.RUNNING, limit=10_000):
            if job.worker_id != dead:
                continue
            self._warn(
                "worker died, its job is given out again",
                dataset_uuid=job.dataset_uuid,
                job_id=job.job_id,
                dead=dead,
            )
            error = JobError(type="WorkerLost", message=f"worker {dead} ended while it worked; see what ended it")
            try:
                self._store.jobs.fail(job, error, retry_after_seconds=0)
                self._tally.lost(job)
                settle(self._store, job.dataset_uuid)
            except LeaseLost:
                continue  # its lease ran out meanwhile

    def _warn(self, event: str, **more: object) -> None:
        logger.warning("%s%s", event, facts(worker_id=self._worker_id, **more))
