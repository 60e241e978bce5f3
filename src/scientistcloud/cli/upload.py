"""``scientistcloud upload``: files to a running portal."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
import platformdirs

from scientistcloud.client import Client, collect, find_portal
from scientistcloud.settings import read_settings


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--server", help="Address of the portal; default: the one that runs on DATA_DIR.")
@click.option("--token-file", type=click.Path(path_type=Path), help="File with the token for it.")
@click.option("--sensor", default="auto", show_default=True, help="Kind of the data; auto: the content decides.")
@click.option("--name", help="What the data set is to be called; default: the file's or folder's name.")
@click.option("--wait", is_flag=True, help="Go on until the conversion has ended; status 1 where it failed.")
@click.option("--no-convert", is_flag=True, help="Keep the files as they are.")
@click.option("--json", "as_json", is_flag=True, help="Print the data set's record as JSON.")
def command(
    paths: tuple[Path, ...],
    server: str | None,
    token_file: Path | None,
    sensor: str,
    name: str | None,
    wait: bool,
    no_convert: bool,
    as_json: bool,
) -> int:
    """Send PATHS as one data set; after a break the same command goes on where it was.

    The last line on standard output is the data set's UUID.
    """
    files = collect(paths)
    portal = find_portal(read_settings(), server=server, token_file=token_file)
    with Client(server=portal.server, token=portal.token) as client:
        with _Bar(sum(file.size_bytes for file in files)) as bar:
            dataset_uuid = client.upload(
                paths,
                name=name,
                sensor=sensor,
                convert=not no_convert,
                manifests=platformdirs.user_state_path("scientistcloud") / "uploads",
                on_bytes=bar.advance,
                on_trouble=bar.say,
            )
            dataset = client.wait(dataset_uuid, on_look=bar.show) if wait else client.dataset(dataset_uuid)
        page = f"{portal.server}/datasets/{dataset_uuid}"
    if as_json:
        click.echo(json.dumps(dataset | {"dataset_uuid": dataset_uuid, "page": page}, indent=1))
    else:
        click.echo(f"{dataset['name']}: {dataset['status']}, {page}", err=True)
        click.echo(dataset_uuid)
    if wait and dataset["status"] != "done":
        click.echo(f"scientistcloud: {dataset['error'] or dataset['status']}", err=True)
        return 1
    return 0


class _Bar:
    """A progress bar on standard error, where that is a terminal."""

    def __init__(self, total_bytes: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.progress import TransferSpeedColumn as Speed

        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            Speed(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("uploading", total=total_bytes)
        self._said = ("", 0.0)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, size_bytes: int) -> None:
        self._progress.advance(self._task, size_bytes)

    def say(self, trouble: str) -> None:
        """What keeps the upload waiting: once, not at every look."""
        said, when = self._said
        if trouble != said or time.monotonic() - when > 30:
            self._said = (trouble, time.monotonic())
            self._console.print(
                f"waiting: {trouble}", style="yellow", highlight=False, markup=False, soft_wrap=True
            )

    def show(self, dataset: dict[str, Any]) -> None:
        self._progress.update(self._task, description=dataset["status"])
