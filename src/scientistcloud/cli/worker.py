"""``scientistcloud worker``: a background service alone."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--slots", type=click.IntRange(min=1), default=1, show_default=True, help="Jobs that run at once.")
@click.option(
    "--worker-id", metavar="NAME", help="Name of this worker; by default the first free one of this host."
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="The data folder, the same on all machines.")
def command(slots: int, worker_id: str | None, data_dir: Path | None) -> None:
    """A background service alone, for another machine: claims jobs and runs them.

    The first Ctrl-C or SIGTERM lets what runs end, the second gives it back to the queue.
    """
    from scientistcloud import logs
    from scientistcloud.assembly import open_store
    from scientistcloud.service.background import BackgroundService
    from scientistcloud.settings import read_settings

    settings = read_settings(data_dir=data_dir)
    logs.configure(settings.log_format)
    store = open_store(settings.store_url)
    try:
        BackgroundService(
            store, data_dir=settings.data_dir, slots=slots, worker_id=worker_id, settings=settings
        ).run()
    finally:
        store.close()
