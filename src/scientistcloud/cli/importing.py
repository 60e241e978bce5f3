"""``scientistcloud import``: the server fetches."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from scientistcloud.client import Client, find_portal
from scientistcloud.errors import InvalidParameters
from scientistcloud.settings import read_settings


@click.command()
@click.argument("url")
@click.option("--server", help="Address of the portal; default: the one that runs on DATA_DIR.")
@click.option("--token-file", type=click.Path(path_type=Path), help="File with the token for it.")
@click.option("--credential-file", metavar="FILE", help="JSON with what opens the source; -: standard input.")
@click.option("--sensor", default="auto", show_default=True, help="Kind of the data; auto: the content decides.")
@click.option("--name", help="What the data set is to be called; default: as the address ends.")
@click.option("--wait", is_flag=True, help="Go on until all is done; status 1 where it failed.")
@click.option("--no-convert", is_flag=True, help="Keep the files as they are.")
@click.option("--json", "as_json", is_flag=True, help="Print the data set's record as JSON.")
def command(
    url: str,
    server: str | None,
    token_file: Path | None,
    credential_file: str | None,
    sensor: str,
    name: str | None,
    wait: bool,
    no_convert: bool,
    as_json: bool,
) -> int:
    """Have the server fetch URL: https://…, s3://BUCKET/KEY, sftp://HOST/PATH, webdavs://…, gdrive:PATH.

    The last line on standard output is the data set's UUID.
    """
    credential = _credential(credential_file)
    portal = find_portal(read_settings(), server=server, token_file=token_file)
    with Client(server=portal.server, token=portal.token) as client:
        dataset = client.begin_import(url, name=name, sensor=sensor, convert=not no_convert, credential=credential)
        if wait:
            with _Said() as said:
                dataset = client.wait(dataset["uuid"], on_look=lambda each: said.look(client, each))
    page = f"{portal.server}/datasets/{dataset['uuid']}"
    if as_json:
        click.echo(json.dumps(dataset | {"dataset_uuid": dataset["uuid"], "page": page}, indent=1))
    else:
        click.echo(f"{dataset['name']}: {dataset['status']}, {page}", err=True)
        click.echo(dataset["uuid"])
    if wait and dataset["status"] != "done":
        click.echo(f"scientistcloud: {dataset['error'] or dataset['status']}", err=True)
        return 1
    return 0


def _credential(path: str | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
        found = json.loads(text)
    except OSError as failed:
        raise InvalidParameters(f"{path} cannot be read: {failed.strerror}") from failed
    except ValueError:
        raise InvalidParameters(f'{path} is no JSON; write {{"login": "…", "password": "…"}}') from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise InvalidParameters(f'{path} is no object of texts; write {{"login": "…", "password": "…"}}')
    return found


class _Said:
    """What happens, on standard error, where that is a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("waiting", total=1.0)
        self._shown = console.is_terminal

    def __enter__(self) -> _Said:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def look(self, client: Client, dataset: dict[str, Any]) -> None:
        if not self._shown:
            return
        running = next((job for job in client.jobs(dataset["uuid"]) if job["status"] == "running"), None)
        step = running["progress"]["step"] if running else ""
        fraction = running["progress"]["fraction"] if running else 0.0
        self._progress.update(self._task, completed=fraction, description=f"{dataset['status']} {step}".strip())
