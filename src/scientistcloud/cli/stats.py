"""``scientistcloud stats``: the figures of the queue."""

from __future__ import annotations

import json

import click

from scientistcloud.cli.jobs import open_existing
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.records import json_of
from scientistcloud.settings import read_settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> None:
    """The figures of the queue, and who works."""
    store = open_existing(read_settings())
    try:
        stats = JobQueueManager(store).stats()
        workers = store.workers.all()
    finally:
        store.close()
    if as_json:
        more = {"waiting": stats.waiting, "oldest_claimable_seconds": stats.oldest_claimable_seconds}
        shown = json_of(stats) | more | {"workers": [json_of(worker) for worker in workers]}
        click.echo(json.dumps(shown, indent=1))
        return
    for status, number in stats.by_status.items():
        click.echo(f"{status:12} {number}")
    for reason, number in stats.waiting.items():
        click.echo(f"pending, waits for {reason:8} {number}")
    oldest = stats.oldest_claimable_seconds
    click.echo(
        "nothing waits to be claimed" if oldest is None else f"the oldest claimable job waits {oldest:.1f} s"
    )
    for worker in workers:
        click.echo(
            f"worker {worker.worker_id} on {worker.host}: {worker.slots} slots, seen {worker.last_seen:%F %T}"
        )
