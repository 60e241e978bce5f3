"""What one elected worker looks after every few seconds: what crashes left between two steps, and old things.

Nothing here is needed for a job that ran well, and everything is harmless when two do it at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from scientistcloud.datasets.lifecycle import DELETION, fulfilled, published, settled
from scientistcloud.datasets.retiring import want_removal
from scientistcloud.datasets.settling import settle, unnamed
from scientistcloud.errors import CallersMistake, NotFound, ScientistCloudError, Stale
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.layout import DataFolder
from scientistcloud.logs import facts
from scientistcloud.ports import FormStore, Store
from scientistcloud.settings import Settings

logger = logging.getLogger(__name__)

ROLE = "care"
# Changes are looked at again for so long: a change may be committed later than its time says.
_OVERLAP = timedelta(minutes=1)
_EVERYTHING = datetime(1970, 1, 2, tzinfo=UTC)
_SWEEP_SECONDS = 3600.0
_PRUNE_AT_ONCE = 500


class Care:
    """`round` does what is due, if this worker is the elected one; raises nothing."""

    def __init__(
        self,
        store: Store,
        *,
        queue: JobQueueManager,
        forms: FormStore,
        folder: DataFolder,
        worker_id: str,
        settings: Settings,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._queue = queue
        self._forms = forms
        self._folder = folder
        self._worker_id = worker_id
        self._keep = timedelta(days=settings.keep_jobs_days)
        self._keep_most = settings.keep_jobs
        self._keep_deleted = timedelta(days=settings.keep_deleted_days)
        self._stopped = stopped
        #: Between two rounds.
        self.pause_seconds = min(max(settings.lease_seconds / 3, 0.5), 10.0)
        self._looked_at: datetime | None = None
        self._swept_at: float | None = None

    def round(self) -> None:
        """One look at everything that may need care. An outage is reported; the next round does its work."""
        try:
            if not self._store.meta.hold(ROLE, self._worker_id, seconds=3 * self.pause_seconds):
                self._looked_at = None  # the next time it is ours, begin with everything
                return
        except ScientistCloudError as failed:
            self._say("no care", reason=failed)
            return
        # What ended leads to promises, so they are kept last.
        for part in (self._recover, self._remove_deleted, self._reconcile, self._keep_promises, self._sweep):
            self._try(part)

    def leave(self) -> None:
        """Let another worker be elected at once."""
        try:
            self._store.meta.release(ROLE, self._worker_id)
        except ScientistCloudError as failed:
            self._say("care not handed over", reason=failed)

    def _say(self, event: str, **more: object) -> None:
        logger.warning("%s%s", event, facts(worker_id=self._worker_id, **more))

    def _try(self, part: Callable[[], None]) -> None:
        try:
            part()
        except ScientistCloudError as failed:
            self._say("care did not finish", part=part.__name__, reason=failed)
        except Exception:
            logger.exception("care broke%s", facts(worker_id=self._worker_id, part=part.__name__))

    # -- its parts ---------------------------------------------------------------------------------

    def _recover(self) -> None:
        self._store.jobs.adopt()
        if recovered := self._store.jobs.recover():
            logger.info("jobs recovered%s", facts(number=recovered, worker_id=self._worker_id))

    def _remove_deleted(self) -> None:
        """Ask for the removal of what was deleted long enough ago."""
        for target in self._store.targets.deleted(before=self._store.clock.now() - self._keep_deleted):
            with suppress(Stale, NotFound):  # somebody had it back just now
                want_removal(self._store, target)

    def _keep_promises(self) -> None:
        """Create the jobs that statuses promise and whose creator died first; their keys make them once."""
        for target in self._store.targets.promised():
            wanted = target.wanted
            if wanted is None or (target.deleted_at is not None) != (wanted.job_type == DELETION):
                continue
            try:
                job_id = self._queue.create_job(
                    dataset_uuid=target.uuid,
                    job_type=wanted.job_type,
                    parameters=wanted.parameters,
                    idempotency_key=wanted.idempotency_key,
                )
                if wanted.job_type == DELETION:
                    continue  # kept with the record, which goes with the job: nothing may restore it any more
                now = settle(self._store, target.uuid)
                if now is not None and now.wanted == wanted:
                    # It was created and is none of those that decide the status: it ended long ago.
                    job = self._store.jobs.get(job_id)
                    if job is None or job.status.ended:
                        self._store.targets.update(now, fulfilled(now))
                        settle(self._store, target.uuid)
            except ScientistCloudError as failed:
                self._say("promised job not created", dataset_uuid=target.uuid, reason=failed)

    def _reconcile(self) -> None:
        """Look after each data set whose jobs changed since the last round."""
        now = self._store.clock.now()
        since = _EVERYTHING if self._looked_at is None else self._looked_at - _OVERLAP
        whole = True
        for dataset_uuid in self._store.jobs.changed_since(since):
            if self._stopped():
                return
            try:
                self.look_after(dataset_uuid)
            except ScientistCloudError as failed:
                whole = False
                self._say("data set not settled", dataset_uuid=dataset_uuid, reason=failed)
        if whole:
            self._looked_at = now

    def _sweep(self) -> None:
        """Once an hour: old jobs and their logs, and folders that nobody needs any more."""
        now = self._store.clock.monotonic()
        if self._swept_at is not None and now - self._swept_at < _SWEEP_SECONDS:
            return
        oldest = self._store.clock.now() - self._keep
        while pruned := self._store.jobs.prune(before=oldest, keep=self._keep_most, limit=_PRUNE_AT_ONCE):
            for job_id in pruned:
                try:
                    self._folder.log(job_id).unlink(missing_ok=True)
                except (OSError, CallersMistake) as failed:
                    self._say("log not removed", job_id=job_id, reason=failed)
        for dataset_uuid in self._forms.untidy():
            if self._stopped():
                return
            try:
                self.look_after(dataset_uuid)
            except ScientistCloudError as failed:
                self._say("folder not tidied", dataset_uuid=dataset_uuid, reason=failed)
        self._swept_at = now

    # -- one data set ------------------------------------------------------------------------------

    def look_after(self, dataset_uuid: str) -> None:
        """Bring the record, its jobs and its folder into agreement; `Stale` where somebody writes just now."""
        before = self._store.targets.get(dataset_uuid)
        if before is None:
            return
        # All that follows was read after the record, and is written only if the record is still the same.
        line = self._store.jobs.line(dataset_uuid)
        now, busy = before, line.running is not None
        if (found := unnamed(self._store, self._forms, before)) is not None:
            busy |= found.unfinished
            if found.owed:
                now = published(now, form=found.form, sensor=found.sensor)
        now = settled(now, line)
        ended = line.last.token if line.last is not None and not busy else 0
        if now != before:
            before = self._store.targets.update(before, now)
        if ended > before.token:
            # The reaper ended the job and drew a token for that, so that its worker can write nothing more.
            before = self._store.targets.update(before, before, token=ended)
        if not busy:
            self._forms.abandon(dataset_uuid, token=before.token)
            self._forms.heal(before)
