"""``scientistcloud stats``: the figures of the queue and of what comes in."""

from __future__ import annotations

import json

import click

from scientistcloud.cli.database import open_existing
from scientistcloud.jobs.handling import living, unhandled
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.records import QueueStats, json_of
from scientistcloud.settings import read_settings
from scientistcloud.uploads.folder import Limits, UploadsFolder


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> None:
    """The figures of the queue, who works, and what comes in."""
    settings = read_settings()
    store = open_existing(settings)
    try:
        intake = UploadsFolder(settings.folder, clock=store.clock, limits=Limits.of(settings)).overview()
        stats = JobQueueManager(store).stats()
        workers = store.workers.all()
        alive = living(workers, now=store.clock.now())
    finally:
        store.close()
    stuck = unhandled(stats, alive)
    if as_json:
        more = {
            "waiting": stats.waiting,
            "oldest_claimable_seconds": stats.oldest_claimable_seconds,
            "unhandled": dict(stuck),
            "uploads": json_of(intake),
            "workers": [json_of(worker) | {"alive": worker in alive} for worker in workers],
        }
        click.echo(json.dumps(json_of(stats) | more, indent=1))
        return
    for status, number in stats.by_status.items():
        click.echo(f"{status:12} {number}")
    for reason, number in stats.waiting.items():
        click.echo(f"pending, waits for {reason:8} {number}")
    oldest = stats.oldest_claimable_seconds
    click.echo(
        "nothing waits to be claimed" if oldest is None else f"the oldest claimable job waits {oldest:.1f} s"
    )
    _say_types(stats)
    for why in stuck.values():
        click.echo(f"jobs wait: {why}")
    for worker in workers:
        seen = f"seen {worker.last_seen:%F %T} UTC" + ("" if worker in alive else ", long ago")
        click.echo(f"worker {worker.worker_id} on {worker.host}, slots: {worker.slots}, {seen}")
    expired = f", {intake.expired_uploads} of them expired" if intake.expired_uploads else ""
    click.echo(
        f"uploads: {intake.open_uploads} open{expired}, {intake.missing_bytes / 1e9:.1f} GB to come; "
        f"{intake.free_bytes / 1e9:.1f} GB free, {intake.reserve_bytes / 1e9:.1f} GB of that kept"
    )


def _say_types(stats: QueueStats) -> None:
    for job_type, figures in stats.types.items():
        paused = " (paused)" if figures.paused else ""
        failed = "".join(
            f", {number} failed with {error or 'no reason'}" for error, number in figures.failed.items()
        )
        click.echo(f"type {job_type}{paused}: {figures.pending} pending, {figures.running} running{failed}")
