"""Deleted, had back, removed for good: what becomes of a data set that nobody wants any more.

Deleting hides the record and calls its jobs off. For some days `restore` undoes that; then care asks for a
`dataset_deletion` job, which removes folder, files and record.
"""

from __future__ import annotations

from contextlib import suppress

from scientistcloud.datasets.lifecycle import DELETION, Deleted, RemovalDue, Restored, after
from scientistcloud.datasets.settling import settle
from scientistcloud.errors import InvalidTransition, NotFound, Stale
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.ports import Store
from scientistcloud.records import ConversionTarget, Dataset, JobStatus, Wanted

_TRIES = 20


def delete(store: Store, dataset_uuid: str) -> Dataset:
    """Hide the data set and call its jobs off; can be repeated. Raises `NotFound`."""
    _change(store, dataset_uuid, Deleted(store.clock.now()))
    queue = JobQueueManager(store)
    for status in (JobStatus.PENDING, JobStatus.RUNNING):
        for job in queue.list_jobs(dataset_uuid=dataset_uuid, status=status, limit=1000):
            with suppress(InvalidTransition, NotFound):  # it ended meanwhile
                if job.job_type != DELETION:
                    queue.cancel_job(job.job_id)
    settle(store, dataset_uuid)
    return _found(store, dataset_uuid)


def restore(store: Store, dataset_uuid: str) -> Dataset:
    """Show the data set again. Raises `NotFound`; `InvalidTransition` where its removal has begun."""
    _change(store, dataset_uuid, Restored())
    settle(store, dataset_uuid)
    return _found(store, dataset_uuid)


def want_removal(store: Store, target: ConversionTarget) -> ConversionTarget:
    """The record says that it waits for the job that removes it; `restore` is refused from here on.

    Raises `Stale` where the record was changed meanwhile, `InvalidTransition` where it is not deleted.
    """
    assert target.deleted_at is not None
    # Of this deletion: one that was undone in between must not count for the next.
    key = f"delete:{target.uuid}:{target.deleted_at.timestamp():.6f}"
    return store.targets.update(
        target, after(target, RemovalDue(Wanted(job_type=DELETION, idempotency_key=key, parameters={})))
    )


def _change(store: Store, dataset_uuid: str, event: Deleted | Restored) -> None:
    for _ in range(_TRIES):
        before = _found(store, dataset_uuid)
        changed = after(before, event)
        if changed == before:
            return
        with suppress(Stale):
            store.datasets.update(before, changed)
            return
    raise Stale(f"data set {dataset_uuid} is being written by too many at once; try again")


def _found(store: Store, dataset_uuid: str) -> Dataset:
    dataset = store.datasets.get(dataset_uuid)
    if dataset is None:
        raise NotFound(f"there is no data set {dataset_uuid}; your list shows those that there are")
    return dataset
