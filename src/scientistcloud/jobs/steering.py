"""Job types that operators pause and resume, from the page and from the command line."""

from __future__ import annotations

from scientistcloud import plugins
from scientistcloud.errors import NotFound
from scientistcloud.jobs.handling import known_types
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.ports import Store


def steer_type(store: Store, job_type: str, *, paused: bool) -> None:
    """Pause or resume the type. Raises `NotFound` where no job, no worker and no installed package knows it."""
    known = known_types(store.jobs.stats(), store.workers.all()).union(plugins.names(plugins.TASKS))
    if job_type not in known:
        raise NotFound(f"there is no job type {job_type[:80]!r}; known are {', '.join(sorted(known))}")
    queue = JobQueueManager(store)
    (queue.pause_type if paused else queue.resume_type)(job_type)
