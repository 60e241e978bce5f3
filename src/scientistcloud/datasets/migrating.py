"""Older records become ours, one by one; what is ours already is left alone, so it can be done again and again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

from scientistcloud.datasets.legacy import dataset_of, job_of
from scientistcloud.datasets.lifecycle import fulfilled
from scientistcloud.datasets.settling import settle
from scientistcloud.datasets.wanted import conversion
from scientistcloud.errors import InvalidParameters, InvalidTransition, QueueFull, Stale
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.ports import Store
from scientistcloud.records import ConversionTarget, DatasetStatus, Found, JobStatus

_WAITING = (DatasetStatus.CONVERSION_QUEUED, DatasetStatus.CONVERTING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What was done, or would be, with one record."""

    #: ``data set UUID`` or ``job ID``.
    what: str
    changes: tuple[str, ...]
    #: Why it could not be done; None where it could.
    trouble: str | None = None


def migrate(store: Store, *, dry_run: bool) -> Iterator[Step]:
    """Each record that changes, as it changes; with `dry_run` nothing is written.

    First the jobs, which then take their places in the lines of their data sets, then the data sets, then a
    conversion for each data set that waits for one and has no job that is still to end.
    """
    unfinished: set[str] = set()
    for found in store.older.jobs():
        yield from _job(store, found, dry_run=dry_run)
        became = job_of(found.fields)
        status = str(became.status) if became else str(found.fields.get("status", ""))
        if status in (JobStatus.PENDING, JobStatus.RUNNING):
            unfinished.add(str(found.fields.get("dataset_uuid", "")))
    if not dry_run:
        store.jobs.adopt()
    for found in store.older.datasets():
        yield from _dataset(store, found, unfinished, dry_run=dry_run)


def _job(store: Store, found: Found, *, dry_run: bool) -> Iterator[Step]:
    became = job_of(found.fields)
    if became is None:
        return
    step = Step(what=f"job {found.fields.get('job_id')}", changes=became.changes)
    if not dry_run and not store.older.take_job(
        found, status=became.status, parameters=became.parameters, drop=became.drop
    ):
        step = replace(step, trouble="it was changed meanwhile; run the command again")
    yield step


def _dataset(store: Store, found: Found, unfinished: set[str], *, dry_run: bool) -> Iterator[Step]:
    dataset_uuid = str(found.fields.get("uuid", ""))
    step = Step(what=f"data set {dataset_uuid}", changes=())
    if not _is_uuid(dataset_uuid):
        yield replace(step, trouble="its uuid is none as str(uuid.uuid4()) writes it; give it another")
        return
    became = dataset_of(found.fields, now=store.clock.now())
    waits: ConversionTarget | None
    if became is None:
        waits = store.targets.get(dataset_uuid)
    else:
        step = replace(step, changes=became.changes)
        waits = became.dataset
        if not dry_run and not store.older.take_dataset(found, became.dataset, drop=became.drop):
            yield replace(step, trouble="it was changed meanwhile; run the command again")
            return
    if waits is not None and waits.uuid not in unfinished and _lacks_its_job(store, waits):
        step = replace(step, changes=(*step.changes, "a conversion is queued, for it has no job"))
        if not dry_run:
            step = replace(step, trouble=_queue(store, waits))
    if step.changes:
        yield step


def _lacks_its_job(store: Store, target: ConversionTarget) -> bool:
    """Whether it waits for a conversion that nobody will create: one that is promised, care creates."""
    if target.status not in _WAITING or target.wanted is not None or target.deleted_at is not None:
        return False
    line = store.jobs.line(target.uuid)  # somebody may have created it since the jobs were looked through
    return line.running is None and line.head is None


def _queue(store: Store, target: ConversionTarget) -> str | None:
    """Create the conversion, the promise first, so that care keeps it if this ends in between; why it could not."""
    wanted = conversion(target, revision=target.revision)
    try:
        promised = store.targets.update(
            target, replace(target, status=DatasetStatus.CONVERSION_QUEUED, wanted=wanted)
        )
        job_id = JobQueueManager(store).create_job(
            dataset_uuid=target.uuid,
            job_type=wanted.job_type,
            parameters=wanted.parameters,
            idempotency_key=wanted.idempotency_key,
        )
        job = store.jobs.get(job_id)
        if job is None or job.status.ended:  # it had been done before; its end decides
            store.targets.update(promised, fulfilled(promised))
        settle(store, target.uuid)
    except (InvalidParameters, InvalidTransition, QueueFull, Stale) as refused:
        return str(refused)
    return None


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
