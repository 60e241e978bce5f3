"""``scientistcloud register``: data that stay where they are."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import click


@click.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C: what appears, changes or goes is noticed.")
@click.option("--convert", is_flag=True, help="Convert each data set that appears or changes.")
@click.option("--no-look", is_flag=True, help="Have no first look at what is not converted.")
@click.option("--as-one", is_flag=True, help="ROOT is one data set, not each file and folder in it.")
@click.option("--sensor", default="auto", show_default=True, help="Kind of the data; auto: the content decides.")
@click.option("--owner", metavar="EMAIL", help="Whose data sets they become; default: USER_EMAIL.")
@click.option("--quiet-seconds", type=float, help="Nothing may have changed for so long; default: the setting.")
@click.option("--poll-seconds", type=float, default=60.0, show_default=True, help="Look at everything so often.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="The data folder.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each event.")
def command(
    root: Path,
    watch: bool,
    convert: bool,
    no_look: bool,
    as_one: bool,
    sensor: str,
    owner: str | None,
    quiet_seconds: float | None,
    poll_seconds: float,
    data_dir: Path | None,
    as_json: bool,
) -> int:
    """Register what lies in ROOT, a folder under REGISTER_ROOTS: nothing is copied, and nothing is written there.

    Each file and folder right in ROOT is a data set. It appears once nobody writes to it any more, and has a first
    look made of some of its pixels.
    """
    from scientistcloud.cli.database import open_database
    from scientistcloud.settings import read_settings
    from scientistcloud.uploads.registering import Registrar
    from scientistcloud.uploads.watching import looks

    settings = read_settings(data_dir=data_dir)
    store = open_database(settings)
    stopped = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopped
        stopped = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    before[signal.SIGIO] = signal.signal(signal.SIGIO, signal.SIG_IGN)  # see `places.is_being_written`
    try:
        registrar = Registrar(
            store,
            root,
            roots=settings.register_folders,
            user=owner or settings.user_email,
            quiet_seconds=settings.register_quiet_seconds if quiet_seconds is None else quiet_seconds,
            convert=convert,
            look=not no_look,
            sensor=sensor,
            as_one=as_one,
        )
        refused = 0
        for event in looks(registrar, watch=watch, poll_seconds=poll_seconds, stopped=lambda: stopped):
            refused += event.what == "refused"
            if as_json:
                facts = {"event": event.what, "place": str(event.place), "message": event.said}
                click.echo(json.dumps(facts | {"dataset_uuid": event.dataset_uuid}))
            else:
                click.echo(f"{event.what:<10} {event.place}: {event.said} {event.dataset_uuid or ''}".rstrip())
    finally:
        store.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    return 1 if refused and not watch else 0
