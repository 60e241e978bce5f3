"""An attempt's hold on its job: renewed in time, given up in time, and heard of whatever ends it.

Two threads meet here: the one that works asks `look` whether it may go on, and `insist`s on what it has to write;
another calls `pulse`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from scientistcloud.errors import Cancelled, LeaseLost, ScientistCloudError, Transient
from scientistcloud.records import Job, JobError, Progress
from scientistcloud.service.failures import Failed
from scientistcloud.service.workplace import Workplace

T = TypeVar("T")

_PROGRESS_SECONDS = 0.25
_LOOK_SECONDS = 1.0


class Cut(Exception):
    """The service is to end now."""


class Lease:
    """The lease on `job`, the record as it was heard of last. `warn` is told what could not be done, and why."""

    def __init__(self, place: Workplace, job: Job, *, warn: Callable[[str, Exception], None]) -> None:
        self.job = job
        self._place = place
        self._warn = warn
        self._now = place.store.clock.monotonic
        #: Set by one thread, read by the other.
        self._lost = self._cancelled = self._cut = False
        self.progress = self._progress_written = Progress()
        self._moved_at = self._now()
        # When the last good heartbeat was sent, not answered: a lease that is thought longer than it is would
        # let two attempts run at once. The claim counts as none; an attempt begins with one.
        self._renewed_at = self._tried_at = self._looked_at = self._now()

    def begin(self) -> None:
        """The first heartbeat, from which the lease counts."""
        self.insist(lambda: self._renew(None))

    def cut(self) -> None:
        """Have the work end and the job given back, its try not counted."""
        self._cut = True

    def pulse(self) -> None:
        """Renew the lease at a third of it, carry progress, look whether the job's end was asked for."""
        now = self._now()
        news = self.progress if self.progress != self._progress_written else None
        due = now - self._renewed_at >= self._place.lease_seconds / 3
        wait = _PROGRESS_SECONDS if news else min(self._place.lease_seconds / 6, 1.0)
        try:
            if (news or due) and now - self._tried_at >= wait:
                self._tried_at = now
                self._renew(news)
            elif now - self._looked_at >= _LOOK_SECONDS:
                self._looked_at = now
                job = self._place.store.jobs.get(self.job.job_id)
                self._cancelled |= job is not None and job.token == self.job.token and job.cancel_requested
        except LeaseLost:
            self._lost = True
        except Cancelled:
            self._cancelled = True
        except ScientistCloudError as failed:
            self._warn("heartbeat failed", failed)

    def look(self, progress: Progress | None = None) -> None:
        """Note `progress`; raise what ends the attempt: `LeaseLost`, `Cancelled`, `Cut`, `Failed`."""
        if progress is not None and progress != self.progress:
            self._moved_at = self._now()
            self.progress = progress
        if self._lost or self._ran_out():
            raise LeaseLost("the job was given to another attempt, or could not be renewed for a whole lease")
        if self._cancelled:
            raise Cancelled("the end of the job was asked for")
        if self._cut:
            raise Cut
        if self._now() - self._moved_at > self._place.stall_seconds:
            where = f" at {self.progress.step!r}" if self.progress.step else ""
            raise Failed(
                JobError(
                    type="Stalled",
                    message=f"the work stood still{where} for {self._place.stall_seconds:g} s and was ended; "
                    "the file may be damaged: export it anew",
                )
            )

    def insist(self, call: Callable[[], T]) -> T:
        """`call`, again and again while the database does not answer and the lease holds."""
        pause = 0.05
        while True:
            try:
                return call()
            except Transient as failed:
                if self._lost or self._cut or self._ran_out():
                    raise LeaseLost(f"the database did not answer for a whole lease: {failed}") from failed
                self._warn("database does not answer, trying again", failed)
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def _ran_out(self) -> bool:
        return self._now() - self._renewed_at > self._place.lease_seconds

    def _renew(self, news: Progress | None) -> None:
        sent = self._now()
        self.job = self._place.queue.heartbeat(self.job, progress=news)
        self._renewed_at = sent
        if news is not None:
            self._progress_written = news
