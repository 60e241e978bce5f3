"""``scientistcloud verify``: the three checks of the architecture of record, against the live database.

It scans what is there, then lets a canary through: a data set for each of two users, whose jobs are created,
claimed and completed by uuid and then removed. Of each step the statements that were sent are shown; a check that
saw none fails, because then it proved nothing.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import click

from scientistcloud.cli.database import open_existing
from scientistcloud.datasets.lifecycle import settled
from scientistcloud.datasets.settling import settle
from scientistcloud.errors import ScientistCloudError
from scientistcloud.jobs.lifecycle import CANARY
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.ports import Store
from scientistcloud.records import Dataset, DatasetStatus, Job, JobStatus, WaitsFor
from scientistcloud.settings import read_settings

PERSON_KEYS = frozenset({"user", "user_id", "user_email", "owner", "email"})
_PERSON_WORD = re.compile(r"\b(user|user_id|user_email|owner|email)\b", re.IGNORECASE)
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Check:
    """One of the three checks, done."""

    question: str
    #: What is wrong, a sentence each; empty when the check holds.
    findings: tuple[str, ...]
    #: How many records were looked at.
    scanned: int
    #: The statements that the canary made the database see.
    statements: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.findings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> int:
    """The three checks of the architecture of record, on the live database."""
    store = open_existing(read_settings())
    try:
        checks = verify(store)
    finally:
        store.close()
    if as_json:
        shown = [
            {
                "question": check.question,
                "holds": check.holds,
                "scanned": check.scanned,
                "findings": list(check.findings),
                "statements": list(check.statements),
            }
            for check in checks
        ]
        click.echo(json.dumps(shown, indent=1))
    else:
        for number, check in enumerate(checks, 1):
            click.echo(f"{number}. {check.question}: {'yes' if check.holds else 'NO'} ({check.scanned} scanned)")
            for statement in check.statements:
                click.echo(f"     sent: {statement}")
            for finding in check.findings:
                click.echo(f"     {finding}")
    return 0 if all(check.holds for check in checks) else 1


def verify(store: Store) -> list[Check]:
    """The three checks; leaves the database as it was, but for what an earlier check left that was killed."""
    queue = JobQueueManager(store)
    _remove_canaries_left(store)
    persons, scanned = _jobs_with_a_person(store)
    stranded = _stranded_heads(store)
    wrong, datasets = _statuses_that_disagree(store)
    canary = _Canary(store, queue)
    try:
        created, claimed, updated, trouble = canary.fly()
    finally:
        canary.remove()
    return [
        _check("jobs carry dataset_uuid and no person", persons, scanned, created, trouble),
        _check("claiming filters by nobody", stranded, scanned, claimed, trouble),
        _check("data sets are updated by uuid, as their jobs say", wrong, datasets, updated, trouble),
    ]


def _check(
    question: str, findings: Sequence[str], scanned: int, statements: Sequence[str], trouble: Sequence[str]
) -> Check:
    found = [*findings, *trouble]
    if not statements:
        found.append("the canary's statements were not seen, so this check proved nothing")
    found += [f"a filter names a person: {statement}" for statement in statements if _PERSON_WORD.search(statement)]
    return Check(question, tuple(found), scanned, tuple(statements))


# -- what is there -------------------------------------------------------------------------------


def _jobs_with_a_person(store: Store) -> tuple[list[str], int]:
    found, scanned = [], 0
    for job in _jobs(store):
        scanned += 1
        found += [f"job {job.job_id} carries {key!r} in its parameters" for key in _person_keys(job.parameters)]
    return found, scanned


def _person_keys(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if str(key).lower() in PERSON_KEYS:
                yield str(key)
            yield from _person_keys(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _person_keys(inner)


def _stranded_heads(store: Store) -> list[str]:
    """Data sets whose line should move and cannot: no head though a job waits for its turn, or a due head that a
    claim would not look at."""
    claimable = set(store.jobs.claimable())
    now = store.clock.now()
    headed, waiting, found = set(), {}, []
    for job in _jobs(store, JobStatus.RUNNING):
        headed.add(job.dataset_uuid)
    for job in _jobs(store, JobStatus.PENDING):
        if job.head:
            headed.add(job.dataset_uuid)
            if job.job_id not in claimable and job.run_at <= now and not _claimed_meanwhile(store, job):
                found.append(f"job {job.job_id} is due and the head of its line, but no claim would find it")
        elif job.waits_for is WaitsFor.TURN:
            waiting[job.dataset_uuid] = job.job_id
    return found + [
        f"job {job_id} waits for its turn in the line of {dataset_uuid}, which has no head; care mends it"
        for dataset_uuid, job_id in waiting.items()
        if dataset_uuid not in headed
    ]


def _claimed_meanwhile(store: Store, job: Job) -> bool:
    now = store.jobs.get(job.job_id)
    return now is None or now.status is not JobStatus.PENDING or now.job_id in store.jobs.claimable()


def _statuses_that_disagree(store: Store) -> tuple[list[str], int]:
    found, scanned, after = [], 0, None
    while page := store.targets.all(after=after, limit=_PAGE):
        for target in page:
            scanned += 1
            expected = settled(target, store.jobs.line(target.uuid))
            if expected.status is not target.status and store.targets.get(target.uuid) == target:
                found.append(f"data set {target.uuid} says {target.status!s}, its jobs say {expected.status!s}")
        after = page[-1].uuid
    return found, scanned


def _jobs(store: Store, status: JobStatus | None = None) -> Iterator[Job]:
    after = None
    while page := store.jobs.find(status=status, after=after, limit=_PAGE):
        yield from page
        after = page[-1].job_id


# -- the canary ----------------------------------------------------------------------------------

_USERS = tuple(f"canary-{name}@verify.invalid" for name in ("ada", "bob"))
_LEFT_AFTER = timedelta(minutes=10)


def _remove_canaries_left(store: Store) -> None:
    """Those of a check that was killed; not those of one that runs beside this one."""
    for user in _USERS:
        for dataset in store.datasets.find(user=user, limit=1000):
            if store.clock.now() - dataset.created_at > _LEFT_AFTER:
                _remove(store, dataset.uuid)


def _remove(store: Store, dataset_uuid: str) -> None:
    # Its record last: by that it is found again.
    store.jobs.remove(dataset_uuid)
    store.datasets.remove(dataset_uuid)


class _Canary:
    """A data set for each of two users, their jobs let through by uuid."""

    def __init__(self, store: Store, queue: JobQueueManager) -> None:
        self.store, self.queue = store, queue
        self.datasets = {str(uuid.uuid4()): user for user in _USERS}

    def fly(self) -> tuple[list[str], list[str], list[str], list[str]]:
        """The statements sent to create, to claim and to update, and what went wrong."""
        trouble = []
        now = self.store.clock.now()
        for dataset_uuid, email in self.datasets.items():
            self.store.datasets.add(
                Dataset(
                    uuid=dataset_uuid,
                    user=email,
                    name="verify canary",
                    sensor="auto",
                    status=DatasetStatus.CONVERSION_QUEUED,
                    closed_at=now,
                    created_at=now,
                    updated_at=now,
                )
            )
        with self.store.trace() as created:
            for dataset_uuid in self.datasets:
                self.queue.create_job(dataset_uuid=dataset_uuid, job_type=CANARY, parameters={"canary": True})
        with self.store.trace() as claimed:
            jobs = self.queue.get_next_jobs("verify", 100, job_types=[CANARY])
        if missing := set(self.datasets) - {job.dataset_uuid for job in jobs}:
            trouble.append(f"{len(missing)} of {len(self.datasets)} users' canaries were not handed out")
        with self.store.trace() as updated:
            for job in jobs:
                self.queue.complete_job(job, {"canary": True})
                settle(self.store, job.dataset_uuid, token=job.token)
        return (
            _sent(created, r"insert\b.*\bjobs\b"),
            _sent(claimed, r"(select|update|find|findAndModify)\b.*\bjobs\b.*(where|filter|query)"),
            _sent(updated, r"(update|findAndModify)\b.*\bvisstoredatas\b"),
            trouble,
        )

    def remove(self) -> None:
        for dataset_uuid in self.datasets:
            try:
                _remove(self.store, dataset_uuid)
            except ScientistCloudError as left:
                click.echo(f"the canary {dataset_uuid} could not be removed: {left}", err=True)


def _sent(statements: Sequence[str], pattern: str) -> list[str]:
    """Those of `statements` that fit, on one line each."""
    lines = [" ".join(statement.split()) for statement in statements]
    return [line for line in lines if re.match(pattern, line, re.IGNORECASE)]
