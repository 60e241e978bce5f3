"""``scientistcloud datasets``: the owner's view, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from scientistcloud.cli.progress import Bar
from scientistcloud.client import Client, find_portal
from scientistcloud.errors import InvalidParameters
from scientistcloud.settings import read_settings

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def command() -> None:
    """Your data sets on a portal."""


def portal_options(function: F) -> F:
    """--server and --token-file."""
    function = click.option("--token-file", type=click.Path(path_type=Path), help="File with the token for it.")(
        function
    )
    return click.option("--server", help="Address of the portal; default: the one that runs on DATA_DIR.")(function)


@contextmanager
def _client(server: str | None, token_file: Path | None) -> Iterator[Client]:
    portal = find_portal(read_settings(), server=server, token_file=token_file)
    with Client(server=portal.server, token=portal.token) as client:
        yield client


def _as_json(what: object) -> None:
    click.echo(json.dumps(what, indent=1))


@command.command("list")
@click.option("--text", help="Part of name, tag, sensor or description.")
@click.option("--status", multiple=True, help="Only with this status; may be given again.")
@click.option("--deleted", is_flag=True, help="Those that were deleted and can be restored.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@portal_options
def list_(
    text: str | None,
    status: tuple[str, ...],
    deleted: bool,
    as_json: bool,
    server: str | None,
    token_file: Path | None,
) -> None:
    """Your data sets, newest first."""
    with _client(server, token_file) as client:
        found = client.datasets(text=text, status=status, deleted=deleted)
        if as_json:
            return _as_json(list(found))
        for dataset in found:
            click.echo(
                f"{dataset['uuid']}  {dataset['status']:17}  {_size(dataset['size_bytes']):>8}  {dataset['name']}"
            )
    return None


@command.command()
@click.argument("uuid")
@click.option("--files", is_flag=True, help="Its source files, with their SHA-256, too.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@portal_options
def show(uuid: str, files: bool, as_json: bool, server: str | None, token_file: Path | None) -> None:
    """Everything about one data set."""
    with _client(server, token_file) as client:
        dataset = client.dataset(uuid)
        found = list(client.files(uuid)) if files else []
        if as_json:
            return _as_json(dataset | ({"files": found} if files else {}))
        for name in ("name", "uuid", "status", "error", "sensor", "description", "tags", "public", "revision"):
            if dataset[name] not in (None, "", []):
                click.echo(f"{name:12} {dataset[name]}")
        click.echo(f"{'size':12} {_size(dataset['size_bytes'])}")
        for name in ("created_at", "closed_at", "updated_at"):
            click.echo(f"{name:12} {dataset[name] or 'open for files'}")
        for name in ("place", "notice"):
            if dataset[name]:
                click.echo(f"{name:12} {dataset[name]}")
        for form in dataset["forms"]:
            click.echo(f"{'form':12} {form.get('format')} {form.get('shape')} {form.get('dtype')}")
        click.echo(f"{'page':12} {client.server}/datasets/{uuid}")
        for file in found:
            click.echo(f"{file['sha256'] or '-':64}  {file['size_bytes']:>12}  {file['path']}")
    return None


@command.command()
@click.argument("uuid")
@click.option(
    "--to", type=click.Path(path_type=Path), help="Folder (or zip) to write; default: the data set's name."
)
@click.option("--converted", is_flag=True, help="The converted form instead of the files as they came.")
@click.option("--zip", "as_zip", is_flag=True, help="One zip instead of a folder.")
@click.option("--parallel", type=click.IntRange(1, 32), default=4, show_default=True, help="Files at a time.")
@click.option("--json", "as_json", is_flag=True, help="Say where it is as JSON.")
@portal_options
def download(
    uuid: str,
    to: Path | None,
    converted: bool,
    as_zip: bool,
    parallel: int,
    as_json: bool,
    server: str | None,
    token_file: Path | None,
) -> None:
    """Fetch a data set; after a break the same command goes on where it was.

    Each file appears when it is whole and its SHA-256 holds. The last line on standard output is where it all is.
    """
    with _client(server, token_file) as client:
        dataset = client.dataset(uuid)
        target = to or Path(_plain(dataset["name"]) + (".zip" if as_zip else ""))
        if target.is_dir() if as_zip else target.exists() and not target.is_dir():
            raise InvalidParameters(
                f"{target} is there and is {'a' if as_zip else 'no'} folder; name another: --to"
            )
        with Bar("downloading", None if as_zip or converted else dataset["size_bytes"]) as bar:
            files = client.download(
                uuid,
                target,
                what="converted" if converted else "source",
                as_zip=as_zip,
                parallel=parallel,
                on_total=bar.expect,
                on_bytes=bar.advance,
            )
    if as_json:
        _as_json({"uuid": uuid, "path": str(target.absolute()), "files": files})
    else:
        click.echo(target)


@command.command()
@click.argument("uuids", nargs=-1, required=True)
@portal_options
def delete(uuids: tuple[str, ...], server: str | None, token_file: Path | None) -> None:
    """Delete data sets; for some days `restore` has them back."""
    with _client(server, token_file) as client:
        for uuid in uuids:
            deleted = client.delete(uuid)
            click.echo(f"{uuid} {deleted['name']}: deleted; `scientistcloud datasets restore {uuid}` has it back")


@command.command()
@click.argument("uuids", nargs=-1, required=True)
@portal_options
def restore(uuids: tuple[str, ...], server: str | None, token_file: Path | None) -> None:
    """Have back what was deleted."""
    with _client(server, token_file) as client:
        for uuid in uuids:
            click.echo(f"{uuid} {client.restore(uuid)['name']}: restored")


@command.command()
@click.argument("uuid")
@click.option("--public/--private", required=True, help="Whether everybody may see it who reaches the portal.")
@portal_options
def share(uuid: str, public: bool, server: str | None, token_file: Path | None) -> None:
    """Say who may see a data set."""
    with _client(server, token_file) as client:
        client.describe(uuid, public=public)
        who = "everybody who reaches the portal may see it" if public else "you alone may see it"
        click.echo(f"{client.server}/datasets/{uuid}: {who}")


def _plain(name: str) -> str:
    """`name` as a name of a file: a folder's separator in it must not lead elsewhere."""
    return name.replace("/", "_").replace("\\", "_").lstrip(".") or "dataset"


def _size(size_bytes: int) -> str:
    size, unit = float(size_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" or size >= 9.95 else f"{size:.1f} {unit}"
