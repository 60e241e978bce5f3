"""``scientistcloud reproduce``: the same conversion once more, and whether it gives the same."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from scientistcloud.errors import NotFound, UnreadableSource
from scientistcloud.layout import CONVERTED_IDX
from scientistcloud.places import state_of
from scientistcloud.records import Json
from scientistcloud.settings import Settings, read_settings

_SHOWN = 20


@click.command("reproduce")
@click.argument("uuid")
@click.option("--data-dir", type=click.Path(path_type=Path), help="The data folder.")
@click.option("--json", "as_json", is_flag=True, help="Print what came of it as JSON.")
def command(uuid: str, data_dir: Path | None, as_json: bool) -> None:
    """Convert the data set UUID again by its recipe and compare every file; status 1 where it differs."""
    from scientistcloud.cli.convert import progress_bar
    from scientistcloud.tasks.reproduction import reproduce

    settings = read_settings(data_dir=data_dir)
    form, source = _form_and_source(uuid, settings)
    folder = settings.folder.dataset(uuid)
    idx = "options" in form and form["options"].get("format") == "idx"
    with progress_bar(uuid) as report:
        found = reproduce(
            folder.root / CONVERTED_IDX if idx else folder.converted,
            source,
            recipe=dict(form) if idx else None,
            report=report,
        )
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


def _form_and_source(uuid: str, settings: Settings) -> tuple[Json, Path]:
    """The newest form as the record has it, and what it was made of."""
    from scientistcloud.cli.database import open_existing  # the driver of the database, needed here alone

    source = settings.folder.dataset(uuid).source
    store = open_existing(settings)
    try:
        dataset = store.datasets.get(uuid)
        if dataset is None:
            raise NotFound(f"there is no data set {uuid}")
        form = dataset.forms[-1] if dataset.forms else {}
        if dataset.place is not None:
            place = Path(dataset.place)
            if not state_of(place, settings.register_folders):
                raise UnreadableSource(f"{place} is gone, or holds no file; put it back")
            return form, place
        job = store.jobs.get(str(form.get("job_id")))
    finally:
        store.close()
    # What came in an archive was converted by itself.
    given = settings.folder.root / str((job.parameters if job else {}).get("input_path") or source)
    return form, given if given.is_relative_to(source) and given.exists() else source
