"""``scientistcloud upload``: files to a running portal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import platformdirs

from scientistcloud.cli.progress import Bar, WorkBar
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
@click.option("--parallel", type=click.IntRange(1, 32), default=4, show_default=True, help="Files at a time.")
@click.option(
    "--parts", type=click.IntRange(1, 32), default=1, show_default=True, help="Parts of a large file at a time."
)
@click.option("--json", "as_json", is_flag=True, help="Print the data set's record as JSON.")
def command(
    paths: tuple[Path, ...],
    server: str | None,
    token_file: Path | None,
    sensor: str,
    name: str | None,
    wait: bool,
    no_convert: bool,
    parallel: int,
    parts: int,
    as_json: bool,
) -> int:
    """Send PATHS as one data set; after a break the same command goes on where it was.

    The last line on standard output is the data set's UUID.
    """
    files = collect(paths)
    portal = find_portal(read_settings(), server=server, token_file=token_file)
    with Client(server=portal.server, token=portal.token) as client:
        with Bar("uploading", sum(file.size_bytes for file in files)) as bar:
            dataset_uuid = client.upload(
                paths,
                name=name,
                sensor=sensor,
                convert=not no_convert,
                parallel=parallel,
                parts=parts,
                manifests=platformdirs.user_state_path("scientistcloud") / "uploads",
                on_bytes=bar.advance,
                on_trouble=bar.say,
            )
        dataset = _followed(client, dataset_uuid) if wait else client.dataset(dataset_uuid)
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


def _followed(client: Client, dataset_uuid: str) -> dict[str, Any]:
    """The data set once its job has ended; meanwhile a bar shows how far that is."""
    with WorkBar() as bar:

        def look(dataset: dict[str, Any]) -> None:
            for job in client.jobs(dataset_uuid):
                if job["status"] in ("running", "pending"):
                    bar.show(dataset["status"], job["progress"]["step"], job["progress"]["fraction"])
                    break
            else:
                bar.show(dataset["status"], "", 0.0)

        return client.wait(dataset_uuid, on_look=look)
