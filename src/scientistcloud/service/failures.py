"""What went wrong with an attempt, as the job keeps it; and what another attempt would only do again."""

from __future__ import annotations

import logging
from dataclasses import replace

from scientistcloud.errors import CallersMistake, ScientistCloudError, SourceError
from scientistcloud.logs import facts
from scientistcloud.records import Job, JobError
from scientistcloud.service.child import FILE_TOO_LARGE, OUT_OF_MEMORY

logger = logging.getLogger(__name__)


class Failed(Exception):
    """The work failed, and why."""

    def __init__(self, error: JobError) -> None:
        super().__init__(error.message)
        self.error = error


def described(job: Job, failed: Exception) -> JobError:
    """Why the attempt failed; what nobody foresaw goes into the service's log with its trace."""
    kind, text = type(failed).__name__, " ".join(str(failed).split())[:2000]
    match failed:
        case Failed(error=error):
            return replace(error, permanent=error.permanent or again(job, error))
        case SourceError() | CallersMistake():
            return JobError(type=kind, message=text, permanent=True)
        case ScientistCloudError():
            return JobError(type=kind, message=text)
        case _:
            logger.error(
                "attempt broke%s", facts(dataset_uuid=job.dataset_uuid, job_id=job.job_id), exc_info=failed
            )
            return JobError(type=kind, message=f"the service met an unexpected {kind}: {text}; see its log")


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
