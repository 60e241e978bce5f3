"""``scientistcloud migrate-legacy``: records of the older system become ours."""

from __future__ import annotations

import click

from scientistcloud.cli.database import open_database, open_existing
from scientistcloud.datasets.migrating import migrate
from scientistcloud.settings import read_settings


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def command(dry_run: bool) -> int:
    """Turn the older system's records in jobs and visstoredatas into ours; a line for each that changes.

    Can be done again and again, also while portal and workers run. Status 1 where a record needs a look.
    """
    settings = read_settings()
    store = open_existing(settings)
    if not dry_run:
        # It may be the older system's alone, which ScientistCloud has never prepared.
        store.close()
        store = open_database(settings)
    changed = trouble = 0
    try:
        for step in migrate(store, dry_run=dry_run):
            said = "; ".join((*step.changes, *([f"NOT DONE: {step.trouble}"] if step.trouble else [])))
            click.echo(f"{step.what}: {said}")
            changed += not step.trouble
            trouble += bool(step.trouble)
    finally:
        store.close()
    would = "would be changed" if dry_run else "changed"
    click.echo(f"{changed} records {would}" + (f", {trouble} need a look" if trouble else ""), err=True)
    return 1 if trouble else 0
