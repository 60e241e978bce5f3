"""One claimed job on its way: begin, run, publish, and the end of the job and of its data set's wait.

Each step presents the job's token, in that order; the first refusal ends it, and then nothing more is changed:
the job belongs to another attempt.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from scientistcloud.access.sealing import Sealing
from scientistcloud.datasets.lifecycle import DELETION, IMPORT, LOOK, is_whole
from scientistcloud.datasets.settling import settle, settle_published
from scientistcloud.errors import Cancelled, InvalidParameters, LeaseLost, ScientistCloudError, Transient
from scientistcloud.layout import QUICKLOOK
from scientistcloud.logs import facts
from scientistcloud.records import ConversionTarget, Job, JobError, Progress
from scientistcloud.service.arrival import bring, brought_before
from scientistcloud.service.failures import Failed, described
from scientistcloud.service.inputs import credential_of, source_of
from scientistcloud.service.joblog import JobLog
from scientistcloud.service.lease import Cut, Lease
from scientistcloud.service.workplace import Workplace
from scientistcloud.tasks.contract import Outcome, Work

logger = logging.getLogger(__name__)

LEASE_LOST = "lease_lost"
_MOST_IMPORTS = 1000


class Attempt:
    """`run` works, in a thread of its own; `pulse`, called from another, keeps the lease meanwhile."""

    def __init__(self, place: Workplace, job: Job) -> None:
        self._place = place
        self._lease = Lease(place, job, warn=lambda event, failed: self._say(logging.WARNING, event, reason=failed))
        self._insist = self._lease.insist
        self._log: JobLog | None = None
        self._error: JobError | None = None
        self._shown = False

    @property
    def job(self) -> Job:
        """The record as it was heard of last."""
        return self._lease.job

    def run(self) -> None:
        """See the attempt to its end; raises nothing."""
        started = time.monotonic()
        traced = self._place.tracing.began(self.job)
        try:
            how = self._see_to_its_end(started)
        finally:
            if self._log is not None:
                self._log.close()
        self._place.tally.ended(self.job, how, seconds=time.monotonic() - started)
        traced(how, self._error)

    def pulse(self) -> None:
        """Keep the lease; to be called a few times a second."""
        self._lease.pulse()

    def cut(self) -> None:
        """End the work and give the job back, its try not counted."""
        self._lease.cut()

    def _see_to_its_end(self, started: float) -> str:
        """Work, and write down how it ended; in one word."""
        try:
            outcome = self._work()
            return self._end("completed", started, outcome=outcome)
        except LeaseLost as lost:
            self._say(logging.WARNING, "lease lost, nothing more is changed", reason=lost)
            return LEASE_LOST
        except Cancelled:
            return self._end("cancelled", started)
        except Cut:
            return self._end("released", started)
        except Exception as failed:  # noqa: BLE001  recorded on the job; the service goes on
            self._error = described(self.job, failed)
            return self._end("failed", started, error=self._error)

    # -- the work ----------------------------------------------------------------------------------

    def _work(self) -> Outcome:
        place, job = self._place, self.job
        self._log = JobLog(place.folder.log(job.job_id), limit_bytes=place.log_bytes)
        self._lease.begin()
        self._log.note(f"attempt {job.attempt} of {job.max_attempts} by worker {job.worker_id}, token {job.token}")
        self._say(logging.INFO, "attempt started", attempt=job.attempt)
        target = self._insist(lambda: place.store.targets.get(job.dataset_uuid))
        if job.job_type == DELETION:
            if target is None:
                return Outcome()  # an earlier attempt removed it, and its end was not written down
            if target.deleted_at is None:
                raise InvalidParameters(f"data set {job.dataset_uuid} is not deleted, so it is not removed either")
        elif target is None or target.deleted_at is not None:
            raise InvalidParameters(f"there is no data set {job.dataset_uuid}; it was removed, so the job ends")
        self._insist(lambda: settle(place.store, job.dataset_uuid, token=job.token))
        self._insist(lambda: settle_published(place.store, place.forms, job.dataset_uuid, token=job.token))
        if job.job_type == LOOK and is_whole(self._insist(lambda: place.store.targets.get(job.dataset_uuid))):
            return Outcome(result={"looked": False, "reason": "the data set is converted"})
        source = source_of(job, target, folder=place.folder, register_roots=place.register_roots)
        output = place.forms.begin(job.dataset_uuid, job_id=job.job_id, token=job.token)
        if output is None:
            return self._done_before()
        outcome = self._run_task(source, output)
        self._lease.look()
        return self._put_in_place(outcome, output)

    def _done_before(self) -> Outcome:
        """The outcome of an earlier attempt, which published it and did not live to write that down."""
        place, job = self._place, self.job
        assert self._log is not None
        self._log.note("an earlier attempt has published the result; only its records are missing")
        brought = brought_before(job, store=place.store, forms=place.forms, insist=self._insist)
        return _published(place.forms.published(job.dataset_uuid)) if brought is None else brought

    def _run_task(self, source: Path, output: Path) -> Outcome:
        assert self._log is not None
        job, place = self.job, self._place
        result = place.runner.run(
            Work(
                job_id=job.job_id,
                dataset_uuid=job.dataset_uuid,
                job_type=job.job_type,
                token=job.token,
                parameters=job.parameters,
                source=source,
                output=output,
                memory_bytes=place.memory_bytes,
                file_bytes=place.file_bytes,
                report=lambda _fraction, _step: None,
                keep=place.forms.kept(job.dataset_uuid, job_id=job.job_id),
                allowed=place.allowed,
                secret=self._secret(),
            ),
            log=self._log,
            timeout_seconds=job.timeout_seconds,
            watch=lambda progress: self._watch(output, progress),
        )
        if isinstance(result, JobError):
            raise Failed(result)
        return result

    def _watch(self, output: Path, progress: Progress) -> None:
        """Note `progress`, and let a quick look be seen as soon as there is one; raise what ends the attempt."""
        if not self._shown and progress != self._lease.progress and (output / QUICKLOOK).exists():
            self._shown = True
            try:
                self._place.forms.show(self.job.dataset_uuid, token=self.job.token)
            except (Transient, OSError) as failed:  # the conversion goes on without it
                self._say(logging.WARNING, "quick look not shown", reason=failed)
        self._lease.look(progress)

    def _put_in_place(self, outcome: Outcome, output: Path) -> Outcome:
        """What the task made takes its place among the data set's files; the outcome as it is kept."""
        place, job = self._place, self.job
        if job.job_type == DELETION:
            place.forms.remove(job.dataset_uuid, token=job.token)
            self._insist(lambda: place.store.targets.remove(job.dataset_uuid, token=job.token))
            return outcome
        if outcome.arrival is not None:
            return bring(
                outcome,
                outcome.arrival,
                store=place.store,
                forms=place.forms,
                job=job,
                output=output,
                insist=self._insist,
            )
        if not outcome.publish:
            place.forms.abandon(job.dataset_uuid, token=job.token)
            return outcome
        if outcome.form is None:
            raise InvalidParameters("the task publishes files without saying which form they are; mend the task")
        outcome = replace(outcome, form={**outcome.form, "token": job.token, "job_id": job.job_id})
        place.forms.publish(
            job.dataset_uuid,
            job_id=job.job_id,
            token=job.token,
            names=outcome.publish,
            outcome={"result": outcome.result, "form": outcome.form, "sensor": outcome.sensor},
        )
        return outcome

    # -- the end -----------------------------------------------------------------------------------

    def _end(
        self, how: str, started: float, *, outcome: Outcome | None = None, error: JobError | None = None
    ) -> str:
        """Write down how the attempt ended: on the job, then on the data set; what came of it, in one word."""
        place, job = self._place, self.job
        try:
            if how != "completed":
                self._tidy()
            self._insist(lambda: self._end_job(how, outcome, error))
            form, sensor = (outcome.form, outcome.sensor) if outcome else (None, None)
            now = self._insist(
                lambda: settle(place.store, job.dataset_uuid, token=job.token, form=form, sensor=sensor)
            )
            if how == "completed":
                self._forget_secrets()
            if how == "cancelled":
                place.forms.forget(job.dataset_uuid, job_id=job.job_id)
            if outcome is not None and now is not None and outcome.result.get("then"):
                self._insist(lambda: self._create_next(now))
        except LeaseLost as lost:
            self._say(logging.WARNING, "lease lost at the end, nothing more is changed", reason=lost)
            return LEASE_LOST
        except Exception:  # care settles what is left
            logger.exception("attempt not written down%s", facts(dataset_uuid=job.dataset_uuid, job_id=job.job_id))
        else:
            seconds = time.monotonic() - started
            if self._log is not None:
                self._log.note(f"{how} after {seconds:.1f} s" + (f": {error.message}" if error else ""))
            self._say(
                logging.INFO, f"attempt {how}", seconds=round(seconds, 2), error=error.type if error else None
            )
        return how

    def _end_job(self, how: str, outcome: Outcome | None, error: JobError | None) -> None:
        queue, job = self._place.queue, self.job
        if outcome is not None:
            queue.complete_job(job, outcome.result)
        elif error is not None:
            queue.fail_job(job, error, permanent=error.permanent)
        elif how == "cancelled":
            queue.acknowledge_cancel(job)
        else:
            queue.release_job(job)

    def _create_next(self, target: ConversionTarget) -> None:
        """Create the job that this one led to; where this does not come to pass, care does it."""
        if target.wanted is not None and target.deleted_at is None:
            self._place.queue.create_job(
                dataset_uuid=target.uuid,
                job_type=target.wanted.job_type,
                parameters=target.wanted.parameters,
                idempotency_key=target.wanted.idempotency_key,
            )
            settle(self._place.store, target.uuid)

    def _tidy(self) -> None:
        try:
            self._place.forms.abandon(self.job.dataset_uuid, token=self.job.token)
        except ScientistCloudError as failed:  # the next attempt or care does it
            self._say(logging.WARNING, "partial result not removed", reason=failed)

    # -- what opens a remote source ----------------------------------------------------------------

    def _secret(self) -> dict[str, str] | None:
        reference = credential_of(self.job)
        if reference is None:
            return None
        sealed = self._insist(lambda: self._place.store.credentials.sealed(reference))
        if sealed is None:
            raise InvalidParameters("the credential of this import has expired; begin the import again")
        return Sealing(self._place.folder.sealing_key).open(sealed)

    def _forget_secrets(self) -> None:
        """Those that nobody needs any more: of a completed import, or of all imports of what was removed."""
        jobs = [self.job]
        if self.job.job_type == DELETION:
            jobs = self._insist(
                lambda: self._place.queue.list_jobs(
                    dataset_uuid=self.job.dataset_uuid, job_type=IMPORT, limit=_MOST_IMPORTS
                )
            )
        for reference in filter(None, map(credential_of, jobs)):
            self._insist(partial(self._place.store.credentials.remove, reference))

    def _say(self, level: int, event: str, **more: object) -> None:
        job = self.job
        logger.log(
            level,
            "%s%s",
            event,
            facts(dataset_uuid=job.dataset_uuid, job_id=job.job_id, worker_id=job.worker_id, **more),
        )


def _published(what: Any) -> Outcome:
    outcome = what["outcome"]
    return Outcome(
        result=outcome["result"],
        publish=tuple(what["names"]),
        form=outcome["form"],
        sensor=outcome["sensor"],
    )
