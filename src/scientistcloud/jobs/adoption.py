"""What becomes of a job that another client inserted with the five fields of the architecture of record: pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from scientistcloud.errors import InvalidParameters
from scientistcloud.jobs import lifecycle
from scientistcloud.jobs.parameters import checked_parameters, checked_type, checked_uuid
from scientistcloud.records import Job, JobError, JobStatus, NewJob


def adopted(
    *,
    job_id: str,
    dataset_uuid: str,
    job_type: str,
    status: str,
    parameters: object,
    seq: int,
    line_free: bool,
    now: datetime,
) -> Job:
    """The five fields as a job of ours at the place `seq` of its line; where they cannot be one, failed with why.

    `parameters`: a JSON object, or one as a text. A job that they say has ended already, has.
    """
    new = NewJob(job_id=job_id, dataset_uuid=dataset_uuid, job_type=job_type, parameters={})
    wrong = None
    try:
        given = parameters if isinstance(parameters, Mapping) else json.loads(parameters)  # type: ignore[arg-type]
        new = replace(new, parameters=checked_parameters(given))
        checked_uuid(dataset_uuid)
        checked_type(job_type)
        known = JobStatus(status)
    except (InvalidParameters, ValueError, TypeError) as refused:
        known, wrong = JobStatus.FAILED, str(refused)
    job = lifecycle.created(new, seq=seq, line_free=line_free, now=now)
    if not known.ended:
        return job
    ended = replace(job, status=known, head=None, waits_for=None, rank=None, finished_at=now)
    if wrong is None:
        return ended
    error = JobError(type="InvalidParameters", message=f"{wrong}; insert it anew", permanent=True)
    return replace(ended, error=error)
