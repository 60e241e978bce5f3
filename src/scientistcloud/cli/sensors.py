"""``scientistcloud sensors``: the kinds of source data known here."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command("sensors")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> None:
    """The kinds of source data known here, those of plug-ins included."""
    from scientistcloud.converters.registry import sensors

    found = sensors()
    if as_json:
        click.echo(json.dumps([asdict(sensor) for sensor in found], indent=1))
        return
    width = max((len(sensor.name) for sensor in found), default=0)
    for sensor in found:
        click.echo(f"{sensor.name:{width}}  {sensor.summary} ({sensor.converter})")
