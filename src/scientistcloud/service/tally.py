"""What this worker has counted and not yet added to the installation's figures."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from datetime import datetime

from scientistcloud.errors import ScientistCloudError
from scientistcloud.jobs import figures
from scientistcloud.ports import CounterStore
from scientistcloud.records import Count, Job

logger = logging.getLogger(__name__)


class Tally:
    """Counts in memory, from any thread; `hand_over` adds all of it to the database in one call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: list[Count] = []

    def claimed(self, job: Job, *, waited_since: datetime) -> None:
        """A claim. `waited_since`: when this worker began to ask for it."""
        counts = figures.one(figures.CLAIMS, job_type=job.job_type)
        if not job.history and job.started_at is not None:
            # Clocks of hosts differ by a little.
            waited = max(0.0, (job.started_at - job.run_at).total_seconds())
            counts += figures.observed(figures.WAIT_SECONDS, waited, job_type=job.job_type)
            if job.run_at <= job.created_at and job.created_at >= waited_since:
                counts += figures.observed(figures.WAKE_UP_SECONDS, waited)
        self._add(counts)

    def ended(self, job: Job, outcome: str, *, seconds: float) -> None:
        """The end of an attempt, as this worker saw it."""
        self._add(figures.one(figures.ATTEMPTS, job_type=job.job_type, outcome=outcome))
        self._add(figures.observed(figures.ATTEMPT_SECONDS, seconds, job_type=job.job_type))

    def lost(self, job: Job) -> None:
        """A job that this worker took back from one that died, fell silent, or was cut off."""
        self._add(figures.one(figures.LEASE_LOSSES, job_type=job.job_type))

    def outage(self) -> None:
        """A claim that was not answered."""
        self._add(figures.one(figures.OUTAGES))

    def hand_over(self, counters: CounterStore) -> None:
        """Add what was counted to the database; what cannot be added now is kept for the next time."""
        with self._lock:
            counts, self._counts = figures.summed(self._counts), []
        if not counts:
            return
        try:
            counters.add(counts)
        except ScientistCloudError as failed:
            self._add(counts)
            logger.warning("figures not written down, kept for later reason=%s", failed)

    def _add(self, counts: Iterable[Count]) -> None:
        with self._lock:
            self._counts.extend(counts)
            if len(self._counts) > 1000:
                self._counts = figures.summed(self._counts)
