"""``scientistcloud jobs``: the operator's view. Opens the database itself, so it works while the portal is down."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from scientistcloud.assembly import open_store
from scientistcloud.datasets.settling import settle
from scientistcloud.errors import InvalidSettings, NotFound
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.ports import Store
from scientistcloud.records import Job, JobStatus, json_of
from scientistcloud.settings import Settings, read_settings


def open_existing(settings: Settings) -> Store:
    """The database, which has to be there: looking must not make an empty one beside the real one."""
    url = settings.store_url
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        raise InvalidSettings(
            f"there is no database at {url.removeprefix('sqlite:///')}; set SCIENTISTCLOUD_DATA_DIR to the folder "
            "that `scientistcloud serve` uses"
        )
    return open_store(url)


@click.group()
def command() -> None:
    """The operator's view of the queue."""


@command.command("list")
@click.option("--status", type=click.Choice([status.value for status in JobStatus]), help="Only jobs that are …")
@click.option("--type", "job_type", help="Only jobs of this type.")
@click.option("--dataset", help="Only jobs of the data set with this UUID.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many at most.")
@click.option("--after", help="Only jobs after this one, in the order of creation.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(
    status: str | None, job_type: str | None, dataset: str | None, limit: int, after: str | None, as_json: bool
) -> None:
    """Jobs in the order of creation."""
    store = open_existing(read_settings())
    try:
        jobs = JobQueueManager(store).list_jobs(
            dataset_uuid=dataset,
            status=JobStatus(status) if status else None,
            job_type=job_type,
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


@command.command()
@click.argument("job_id")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(job_id: str, as_json: bool) -> None:
    """Everything about one job, its attempts included."""
    store = open_existing(read_settings())
    try:
        job = _job(store, job_id)
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
        why = f": {attempt.error.message}" if attempt.error else ""
        click.echo(f"attempt {attempt.number:<9} {attempt.outcome} after {took:.1f} s on {attempt.worker_id}{why}")


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


@command.command()
@click.argument("job_id")
def cancel(job_id: str) -> None:
    """End a job: at once while it is pending; a running one as soon as its worker sees it."""
    _act(job_id, "cancel_job")


@command.command()
@click.argument("job_id")
def retry(job_id: str) -> None:
    """Let a failed or cancelled job join its line again."""
    _act(job_id, "retry_job")


def _act(job_id: str, call: str) -> None:
    store = open_existing(read_settings())
    try:
        queue = JobQueueManager(store)
        getattr(queue, call)(job_id)
        job = _job(store, job_id)
        settle(store, job.dataset_uuid)
    finally:
        store.close()
    asked = ", cancel asked for" if job.status is JobStatus.RUNNING and job.cancel_requested else ""
    click.echo(f"{job.job_id} is {job.status}{asked}")


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
