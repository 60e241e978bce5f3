"""``scientistcloud jobs``: the operator's view. Opens the database itself, so it works while the portal is down."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from scientistcloud.cli.database import open_existing
from scientistcloud.cli.jobs_watch import watch
from scientistcloud.datasets import steering
from scientistcloud.errors import NotFound
from scientistcloud.jobs.handling import living, why_it_waits
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.jobs.steering import steer_type
from scientistcloud.ports import Store
from scientistcloud.records import Job, JobStatus, json_of
from scientistcloud.settings import read_settings


@click.group()
def command() -> None:
    """The operator's view of the queue."""


command.add_command(watch)


@command.command("list")
@click.option("--status", type=click.Choice([status.value for status in JobStatus]), help="Only jobs that are …")
@click.option("--type", "job_type", help="Only jobs of this type.")
@click.option("--dataset", help="Only jobs of the data set with this UUID.")
@click.option("--error", help="Only jobs whose error has this in its type or message.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many at most.")
@click.option("--after", help="Only jobs after this one, in the order of creation.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(
    status: str | None,
    job_type: str | None,
    dataset: str | None,
    error: str | None,
    limit: int,
    after: str | None,
    as_json: bool,
) -> None:
    """Jobs in the order of creation."""
    store = open_existing(read_settings())
    try:
        jobs = JobQueueManager(store).list_jobs(
            dataset_uuid=dataset,
            status=JobStatus(status) if status else None,
            job_type=job_type,
            error=error,
            after=after,
            limit=limit,
        )
    finally:
        store.close()
    if as_json:
        click.echo(json.dumps([json_of(job) for job in jobs], indent=1))
        return
    _table(jobs)
    if len(jobs) == limit:
        click.echo(f"… more may follow: --after {jobs[-1].job_id}")


@command.command(short_help="Everything about one job.")
@click.argument("job_id")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(job_id: str, as_json: bool) -> None:
    """Everything about one job, its attempts included."""
    store = open_existing(read_settings())
    try:
        job = _job(store, job_id)
        first = store.jobs.current([job.dataset_uuid]).get(job.dataset_uuid)
        why = why_it_waits(
            job,
            head=first if first is not None and first.head else None,
            paused=store.jobs.paused(),
            workers=living(store.workers.all(), now=store.clock.now()),
        )
    finally:
        store.close()
    if as_json:
        click.echo(json.dumps(json_of(job), indent=1))
        return
    for name, value in json_of(job).items():
        if name != "history" and value is not None:
            click.echo(f"{name:17} {value if isinstance(value, str) else json.dumps(value)}")
    for attempt in job.history:
        took = (attempt.finished_at - attempt.started_at).total_seconds()
        said = f": {attempt.error.message}" if attempt.error else ""
        click.echo(f"attempt {attempt.number:<9} {attempt.outcome} after {took:.1f} s on {attempt.worker_id}{said}")
    if why is not None:
        click.echo(f"{'waits, because':17} {why}")


@command.command()
@click.argument("job_id")
@click.option("--follow", "-f", is_flag=True, help="Go on until the job has ended.")
def logs(job_id: str, follow: bool) -> None:
    """What the job's attempts said."""
    settings = read_settings()
    store = open_existing(settings)
    path = settings.folder.log(job_id)
    try:
        ended = _job(store, job_id).status.ended
        position = _print_from(path, 0)
        while follow and not ended:
            time.sleep(0.3)
            ended = _job(store, job_id).status.ended
            position = _print_from(path, position)
    finally:
        store.close()
    if not path.exists():
        click.echo(f"job {job_id} has no log: no attempt of it has begun", err=True)


@command.command(short_help="End a job.")
@click.argument("job_id")
def cancel(job_id: str) -> None:
    """End a job: at once while it is pending; a running one as soon as its worker sees it."""
    store = open_existing(read_settings())
    try:
        job = steering.cancel(store, job_id)
    finally:
        store.close()
    asked = ", cancel asked for" if job.status is JobStatus.RUNNING and job.cancel_requested else ""
    click.echo(f"{job.job_id} is {job.status}{asked}")


@command.command(short_help="Let one job, or all that failed, run again.")
@click.argument("job_id", required=False)
@click.option("--failed", is_flag=True, help="Every job that failed, instead of one.")
@click.option("--type", "job_type", help="With --failed: only jobs of this type.")
@click.option("--error", help="With --failed: only jobs whose error has this in its type or message.")
def retry(job_id: str | None, failed: bool, job_type: str | None, error: str | None) -> None:
    """Let a failed or cancelled job join its line again; or, with --failed, all that failed.

    Of all that failed those stay failed whose data set is deleted, or whose work a later job of the same type did.
    """
    if failed == (job_id is not None) or (not failed and (job_type or error)):
        raise click.UsageError("name one job, or give --failed (with --type and --error to narrow it)")
    store = open_existing(read_settings())
    try:
        if job_id is not None:
            click.echo(f"{job_id} is {steering.retry(store, job_id).status}")
            return
        became = steering.retry_failed(store, list(steering.failed(store, job_type=job_type, error=error)))
    finally:
        store.close()
    for job in became.retried:
        click.echo(f"{job.job_id} is {job.status}")
    left = f"; {len(became.left)} left: done since, or their data set is deleted" if became.left else ""
    click.echo(
        f"{len(became.retried)} of {len(became.retried) + len(became.left)} failed jobs retried{left}", err=True
    )


@command.command("failed", short_help="What failed for good, by type and error.")
@click.option("--type", "job_type", help="Only jobs of this type.")
@click.option("--error", help="Only jobs whose error has this in its type or message.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def dead_letters(job_type: str | None, error: str | None, as_json: bool) -> None:
    """What failed for good, by type and error, with the newest job of each."""
    store = open_existing(read_settings())
    groups: dict[tuple[str, str], tuple[int, Job]] = {}
    try:
        for job in steering.failed(store, job_type=job_type, error=error):
            key = (job.job_type, job.error.type if job.error else "")
            groups[key] = (groups.get(key, (0, job))[0] + 1, job)
    finally:
        store.close()
    by_number = sorted(groups.items(), key=lambda item: -item[1][0])
    if as_json:
        shown = [
            {"job_type": kind, "error": name, "number": number, "newest": json_of(job)}
            for (kind, name), (number, job) in by_number
        ]
        click.echo(json.dumps(shown, indent=1))
        return
    if not by_number:
        click.echo("no job has failed")
    for (kind, name), (number, job) in by_number:
        click.echo(f"{number:7}  {kind}  {name}")
        click.echo(f"         {job.error.message if job.error else 'no reason is known'}")
        click.echo(f"         newest: {job.job_id} of data set {job.dataset_uuid}")


@command.command(short_help="Hand out no job of a type.")
@click.argument("job_type", metavar="TYPE")
def pause(job_type: str) -> None:
    """Hand out no job of TYPE, to any worker, until it is resumed; what runs goes on."""
    _steer(job_type, paused=True)


@command.command(short_help="Hand out jobs of a type again.")
@click.argument("job_type", metavar="TYPE")
def resume(job_type: str) -> None:
    """Hand out jobs of TYPE again."""
    _steer(job_type, paused=False)


def _steer(job_type: str, *, paused: bool) -> None:
    store = open_existing(read_settings())
    try:
        steer_type(store, job_type, paused=paused)
        figures = store.jobs.stats().types[job_type]
    finally:
        store.close()
    what = "paused" if paused else "resumed"
    click.echo(f"{job_type} is {what}: {figures.pending} pending, {figures.running} running")


def _job(store: Store, job_id: str) -> Job:
    job = JobQueueManager(store).get_job(job_id)
    if job is None:
        raise NotFound(f"there is no job {job_id}; `scientistcloud jobs list` shows them")
    return job


def _table(jobs: list[Job]) -> None:
    if not jobs:
        click.echo("no jobs")
        return
    click.echo(f"{'job':36}  {'status':9}  {'tries':5}  {'done':>5}  {'type':20}  data set")
    for job in jobs:
        done = f"{job.progress.fraction:.0%}"
        tries = f"{job.attempt}/{job.max_attempts}"
        error = f"  {job.error.message}" if job.error and job.status is JobStatus.FAILED else ""
        click.echo(
            f"{job.job_id:36}  {job.status:9}  {tries:5}  {done:>5}  {job.job_type:20}  {job.dataset_uuid}{error}"
        )


def _print_from(path: Path, position: int) -> int:
    try:
        with path.open("rb") as log:
            log.seek(position)
            new = log.read()
    except FileNotFoundError:
        return position
    click.echo(new.decode(errors="replace"), nl=False)
    return position + len(new)
