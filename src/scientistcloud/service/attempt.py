"""One claimed job on its way: begin, run, publish, and the end of the job and of its data set's wait.

Each step presents the job's token, in that order; the first refusal ends it, and then nothing more is changed:
the job belongs to another attempt.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from scientistcloud.access.sealing import Sealing
from scientistcloud.datasets.lifecycle import DELETION
from scientistcloud.datasets.settling import settle, settle_published
from scientistcloud.errors import (
    CallersMistake,
    Cancelled,
    InvalidParameters,
    LeaseLost,
    ScientistCloudError,
    SourceError,
    Transient,
    UnreadableSource,
)
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.layout import QUICKLOOK, DataFolder
from scientistcloud.logs import facts
from scientistcloud.places import state_of
from scientistcloud.ports import FormStore, Store
from scientistcloud.records import ConversionTarget, Job, JobError, Json, Progress
from scientistcloud.service.arrival import bring, brought_before
from scientistcloud.service.child import FILE_TOO_LARGE, OUT_OF_MEMORY
from scientistcloud.service.joblog import JobLog
from scientistcloud.service.runner import Runner
from scientistcloud.service.tally import Tally
from scientistcloud.service.tracing import Tracing
from scientistcloud.tasks.contract import Outcome, Work

logger = logging.getLogger(__name__)
T = TypeVar("T")

_PROGRESS_SECONDS = 0.25
_LOOK_SECONDS = 1.0
LEASE_LOST = "lease_lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """What all attempts of a service work with."""

    store: Store
    queue: JobQueueManager
    forms: FormStore
    runner: Runner
    tally: Tally
    tracing: Tracing
    folder: DataFolder
    lease_seconds: float
    stall_seconds: float
    memory_bytes: int
    file_bytes: int
    log_bytes: int
    #: What tasks may see of the settings: `tasks.contract.Work.allowed`.
    allowed: Json
    register_roots: Sequence[Path]


class _Cut(Exception):
    """The service is to end now."""


class _Failed(Exception):
    """The work failed, and why."""

    def __init__(self, error: JobError) -> None:
        super().__init__(error.message)
        self.error = error


class Attempt:
    """`run` works, in a thread of its own; `pulse`, called from another, keeps the lease meanwhile."""

    def __init__(self, place: Workplace, job: Job) -> None:
        self._place = place
        self.job = job
        self._now = place.store.clock.monotonic
        self._log: JobLog | None = None
        self._error: JobError | None = None
        #: Set by one thread, read by the other.
        self._lost = self._cancelled = self._cut = False
        self._shown = False
        self._progress = self._progress_written = Progress()
        self._moved_at = self._now()
        # When the last good heartbeat was sent, not answered: a lease that is thought longer than it is would
        # let two attempts run at once. The claim counts as none; `run` begins with one.
        self._renewed_at = self._tried_at = self._looked_at = self._now()

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
        except _Cut:
            return self._end("released", started)
        except Exception as failed:  # noqa: BLE001  recorded on the job; the service goes on
            self._error = self._described(failed)
            return self._end("failed", started, error=self._error)

    def cut(self) -> None:
        """End the work and give the job back, its try not counted."""
        self._cut = True

    def pulse(self) -> None:
        """Renew the lease at a third of it, carry progress, look whether the job's end was asked for."""
        now = self._now()
        news = self._progress if self._progress != self._progress_written else None
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
            self._say(logging.WARNING, "heartbeat failed", reason=failed)

    # -- the steps ---------------------------------------------------------------------------------

    def _work(self) -> Outcome:
        place, job = self._place, self.job
        self._log = JobLog(place.folder.log(job.job_id), limit_bytes=place.log_bytes)
        self._insist(lambda: self._renew(None))
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
        source = self._source(target)
        output = place.forms.begin(job.dataset_uuid, job_id=job.job_id, token=job.token)
        if output is None:
            self._log.note("an earlier attempt has published the result; only its records are missing")
            if (
                brought := brought_before(job, store=place.store, forms=place.forms, insist=self._insist)
            ) is not None:
                return brought
            return _published(place.forms.published(job.dataset_uuid))
        outcome = self._run_task(source, output)
        self._watch(self._progress)
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
                job=self.job,
                output=output,
                insist=self._insist,
            )
        if outcome.publish:
            if outcome.form is None:
                raise InvalidParameters(
                    "the task publishes files without saying which form they are; mend the task"
                )
            outcome = replace(outcome, form={**outcome.form, "token": job.token, "job_id": job.job_id})
            place.forms.publish(
                job.dataset_uuid,
                job_id=job.job_id,
                token=job.token,
                names=outcome.publish,
                outcome={"result": outcome.result, "form": outcome.form, "sensor": outcome.sensor},
            )
        else:
            place.forms.abandon(job.dataset_uuid, token=job.token)
        return outcome

    def _show(self, output: Path, progress: Progress) -> None:
        """Note `progress`, and let a quick look be seen as soon as there is one."""
        if not self._shown and progress != self._progress and (output / QUICKLOOK).exists():
            self._shown = True
            try:
                self._place.forms.show(self.job.dataset_uuid, token=self.job.token)
            except (Transient, OSError) as failed:  # the conversion goes on without it
                self._say(logging.WARNING, "quick look not shown", reason=failed)
        self._watch(progress)

    def _run_task(self, source: Path, output: Path) -> Outcome:
        assert self._log is not None
        result = self._place.runner.run(
            Work(
                job_id=self.job.job_id,
                dataset_uuid=self.job.dataset_uuid,
                job_type=self.job.job_type,
                token=self.job.token,
                parameters=self.job.parameters,
                source=source,
                output=output,
                memory_bytes=self._place.memory_bytes,
                file_bytes=self._place.file_bytes,
                report=lambda _fraction, _step: None,
                keep=self._place.forms.kept(self.job.dataset_uuid, job_id=self.job.job_id),
                allowed=self._place.allowed,
                secret=self._secret(),
            ),
            log=self._log,
            timeout_seconds=self.job.timeout_seconds,
            watch=lambda progress: self._show(output, progress),
        )
        if isinstance(result, JobError):
            raise _Failed(result)
        return result

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
            if how in ("completed", "cancelled"):
                self._forget_secret()
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
            self._say(logging.INFO, f"attempt {how}", seconds=f"{seconds:.2f}", error=error.type if error else None)
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

    # -- the lease ---------------------------------------------------------------------------------

    def _renew(self, news: Progress | None) -> None:
        sent = self._now()
        self.job = self._place.queue.heartbeat(self.job, progress=news)
        self._renewed_at = sent
        if news is not None:
            self._progress_written = news

    def _watch(self, progress: Progress) -> None:
        """Note `progress`; raise what ends the attempt."""
        if progress != self._progress:
            self._moved_at = self._now()
        self._progress = progress
        if self._lost or self._now() - self._renewed_at > self._place.lease_seconds:
            raise LeaseLost("the job was given to another attempt, or could not be renewed for a whole lease")
        if self._cancelled:
            raise Cancelled("the end of the job was asked for")
        if self._cut:
            raise _Cut
        if self._now() - self._moved_at > self._place.stall_seconds:
            where = f" at {progress.step!r}" if progress.step else ""
            raise _Failed(
                JobError(
                    type="Stalled",
                    message=f"the work stood still{where} for {self._place.stall_seconds:g} s and was ended; "
                    "the file may be damaged: export it anew",
                )
            )

    def _insist(self, call: Callable[[], T]) -> T:
        """`call`, again and again while the database does not answer and the lease holds."""
        pause = 0.05
        while True:
            try:
                return call()
            except Transient as failed:
                if self._lost or self._cut or self._now() - self._renewed_at > self._place.lease_seconds:
                    raise LeaseLost(f"the database did not answer for a whole lease: {failed}") from failed
                self._say(logging.WARNING, "database does not answer, trying again", reason=failed)
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    # -- what is asked for -------------------------------------------------------------------------

    def _source(self, target: ConversionTarget | None) -> Path:
        """Where to read: what `input_path` names, else the source files. Both paths must be the data set's own.

        Those of a registered data set are its place, under a folder that the operator allows.
        """
        own = self._place.folder.dataset(self.job.dataset_uuid)
        parameters: dict[str, Any] = dict(self.job.parameters)
        if target is not None and target.place is not None and self.job.job_type != DELETION:
            place, parameters = Path(target.place), {**parameters, "input_path": None}
            if not state_of(place, self._place.register_roots):
                raise UnreadableSource(f"{place} is gone, or holds no file; put it back, then convert again")
            own_source = place
        else:
            own_source = own.source
        paths = {
            name: self._inside(own.root, name, parameters[name])
            for name in ("input_path", "output_path")
            if parameters.get(name) is not None
        }
        source = paths.get("input_path", own_source)
        if "input_path" in paths and not source.exists():
            raise UnreadableSource(f"{parameters['input_path']} is not there any more; upload the files again")
        return source

    def _inside(self, own: Path, name: str, given: object) -> Path:
        try:
            path = Path(os.path.realpath(self._place.folder.root / given))  # type: ignore[operator]
        except (TypeError, ValueError):
            raise InvalidParameters(f"the job's {name} is no path: {str(given)[:200]!r}; create it anew") from None
        if not path.is_relative_to(os.path.realpath(own)):
            raise InvalidParameters(
                f"the job's {name} {str(given)[:200]!r} leads out of its data set's folder; create it anew"
            )
        return path

    def _secret(self) -> dict[str, str] | None:
        """What opens the remote source; None where the job names no credential."""
        reference = self.job.parameters.get("credential")
        if not isinstance(reference, str):
            return None
        sealed = self._insist(lambda: self._place.store.credentials.sealed(reference))
        if sealed is None:
            raise InvalidParameters("the credential of this import has expired; begin the import again")
        return Sealing(self._place.folder.sealing_key).open(sealed)

    def _forget_secret(self) -> None:
        reference = self.job.parameters.get("credential")
        if isinstance(reference, str):
            self._insist(lambda: self._place.store.credentials.remove(reference))

    # -- what is said ------------------------------------------------------------------------------

    def _described(self, failed: Exception) -> JobError:
        kind, text = type(failed).__name__, " ".join(str(failed).split())[:2000]
        match failed:
            case _Failed(error=error):
                return replace(error, permanent=error.permanent or again(self.job, error))
            case SourceError() | CallersMistake():
                return JobError(type=kind, message=text, permanent=True)
            case ScientistCloudError():
                return JobError(type=kind, message=text)
            case _:
                logger.error(
                    "attempt broke%s",
                    facts(dataset_uuid=self.job.dataset_uuid, job_id=self.job.job_id),
                    exc_info=failed,
                )
                return JobError(type=kind, message=f"the service met an unexpected {kind}: {text}; see its log")

    def _say(self, level: int, event: str, **more: object) -> None:
        job = self.job
        logger.log(
            level,
            "%s%s",
            event,
            facts(dataset_uuid=job.dataset_uuid, job_id=job.job_id, worker_id=job.worker_id, **more),
        )


def again(job: Job, error: JobError) -> bool:
    """Whether an earlier try of this run ended by the same signal or memory limit: then a third would, too."""
    if not error.type.startswith("KilledBy") and error.type not in (OUT_OF_MEMORY, FILE_TOO_LARGE):
        return False
    number = job.attempt
    for earlier in reversed(job.history):
        if earlier.number > number:
            return False  # of the run before somebody retried the job, which may have mended it
        number = earlier.number
        if earlier.number < job.attempt and earlier.error is not None and earlier.error.type == error.type:
            return True
    return False


def _published(what: Any) -> Outcome:
    outcome = what["outcome"]
    return Outcome(
        result=outcome["result"],
        publish=tuple(what["names"]),
        form=outcome["form"],
        sensor=outcome["sensor"],
    )
