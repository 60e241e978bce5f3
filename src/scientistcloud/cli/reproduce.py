"""``scientistcloud reproduce``: the same conversion once more, and whether it gives the same."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from scientistcloud.settings import read_settings

_SHOWN = 20


@click.command("reproduce")
@click.argument("uuid")
@click.option("--data-dir", type=click.Path(path_type=Path), help="The data folder.")
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as JSON.")
def command(uuid: str, data_dir: Path | None, as_json: bool) -> None:
    """Convert the data set UUID again by its recipe and compare every file; status 1 where it differs."""
    from scientistcloud.cli.convert import progress_bar
    from scientistcloud.tasks.reproduction import reproduce

    folder = read_settings(data_dir=data_dir).folder.dataset(uuid)
    with progress_bar(uuid) as report:
        found = reproduce(folder.converted, folder.source, report=report)
    if as_json:
        click.echo(json.dumps(asdict(found) | {"same": found.same}, indent=1, ensure_ascii=False))
    elif found.same:
        click.echo(f"{uuid}: the same in all of {found.files:,} files\n  sha256  {found.digest}")
    else:
        versions = "" if found.written_by == found.compared_by else f" (written by {found.written_by})"
        click.echo(f"{uuid}: {len(found.differences)} differences{versions}")
        for line in found.differences[:_SHOWN]:
            click.echo(f"  {line}")
    if not found.same:
        raise SystemExit(1)
