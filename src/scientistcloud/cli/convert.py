"""``scientistcloud convert``: conversion alone, no server, no database."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from scientistcloud.tasks.contract import Report

_MIB = 1 << 20


@click.command("convert")
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.argument("output", metavar="OUTPUT", type=click.Path(path_type=Path))
@click.option("--sensor", default="auto", show_default=True, help="The kind of source data; see `sensors`.")
@click.option("--format", "form", type=click.Choice(["ome-zarr", "idx"]), default="ome-zarr", show_default=True)
@click.option("--array", help="The array to show first, by its name in the source.")
@click.option("--axes", metavar="T,Y,X", help="Names for the axes, in order.")
@click.option("--spacing", metavar="Z=2.5,Y=0.4", help="Spacing by axis, in the axis' unit.")
@click.option("--bands", metavar="OCN", help="The filter of a MAPIR camera, where its model does not say it.")
@click.option("--scan", metavar="3x4", help="Rows and columns of a scan whose frames come one after the other.")
@click.option("--levels", type=click.IntRange(min=1), help="At most so many resolutions.")
@click.option(
    "--reduce",
    type=click.Choice(["mean", "maximum", "mode", "or", "nearest"]),
    help="How a level is made from the one before.",
)
@click.option("--codec", type=click.Choice(["auto", "zstd", "lz4"]), default="auto", show_default=True)
@click.option("--fill", type=float, metavar="-999", help="The value that means 'no data'; NaN too.")
@click.option("--chunk", metavar="64,64,64", help="Lengths of chunks along the last axes.")
@click.option("--shard", metavar="256,512,512", help="Lengths of shards along the last axes; multiples of a chunk.")
@click.option("--preview", type=click.Path(path_type=Path), help="Write a still picture here too (WebP).")
@click.option("--memory", type=click.IntRange(min=256), default=512, show_default=True, help="MiB to keep to.")
@click.option(
    "--stall",
    type=click.FloatRange(min=1),
    default=600,
    show_default=True,
    help="Seconds without progress after which it ends.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the form as JSON.")
def command(
    source: Path,
    output: Path,
    *,
    sensor: str,
    form: str,
    array: str | None,
    axes: str | None,
    spacing: str | None,
    bands: str | None,
    scan: str | None,
    levels: int | None,
    reduce: str | None,
    codec: str,
    fill: float | None,
    chunk: str | None,
    shard: str | None,
    preview: Path | None,
    memory: int,
    stall: float,
    as_json: bool,
) -> None:
    """Convert INPUT, a file or a folder, into the new OME-Zarr store OUTPUT, or into an .idx with its blocks."""
    from scientistcloud.cli.watchman import watched
    from scientistcloud.layout import partial_of
    from scientistcloud.tasks.fingerprint import Hashing

    reading = {
        "array": array,
        "axes": axes.split(",") if axes else None,
        "spacing": _spacing(spacing),
        "bands": bands,
        "scan": scan,
    }
    leftover = partial_of(output.absolute(), os.getpid())
    with (
        progress_bar(source.name) as shown,
        watched(source.name, leftover=leftover, stall_seconds=stall, report=shown) as report,
        Hashing(source) as hashing,
    ):
        # While the source is hashed.
        from scientistcloud.tasks.conversion import convert
        from scientistcloud.tasks.conversion_options import read_options, write_options

        made = convert(
            source,
            output,
            sensor=sensor,
            form=form,
            options=read_options(reading),
            writing=write_options(
                {
                    "levels": levels,
                    "reduce": reduce,
                    "codec": codec,
                    "fill": fill,
                    "chunk": _lengths(chunk),
                    "shard": _lengths(shard),
                }
            ),
            preview=preview,
            memory_bytes=memory * _MIB,
            report=report,
            hashing=hashing,
        )
    click.echo(json.dumps(made, indent=2, ensure_ascii=False) if as_json else _summary(made, output))


def _lengths(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} are no lengths; write 64,64,64") from None


def _spacing(text: str | None) -> dict[str, float]:
    out = {}
    for part in (text or "").split(",") if text else []:
        name, _, number = part.partition("=")
        try:
            out[name.strip()] = float(number)
        except ValueError:
            raise click.BadParameter(f"{part!r} is no axis with a number; write z=2.5,y=0.4,x=0.4") from None
    return out


@contextmanager
def progress_bar(name: str) -> Iterator[Report]:
    """A bar on standard error; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda fraction, step: None  # noqa: ARG005
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.fields[step]}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=1.0, step=name)
        yield lambda fraction, step: progress.update(task, completed=fraction, step=step)


def _summary(made: dict[str, Any], output: Path) -> str:
    axes = ", ".join(f"{axis['name']} {axis['length']:,}" for axis in made["axes"])
    levels = " → ".join("×".join(map(str, level["shape"])) for level in made["levels"])
    levels += f" ({made['reduction']})" if len(made["levels"]) > 1 else ""
    lines = [
        f"{output}: {made['sensor']}, {made['variable']} from {made['source_array']}, {made['dtype']}",
        f"  axes    {axes}",
        f"  levels  {levels}",
        f"  size    {made['size_bytes'] / _MIB:,.1f} MiB in {made['files']} files, {made['codec']}",
        f"  time    {made['seconds']:.1f} s",
    ]
    others = [image["variable"] for image in made["images"][1:]]
    if others:
        lines.append(f"  also    {', '.join(others)}")
    lines += [f"  note    {warning}" for warning in made["warnings"]]
    return "\n".join(lines)
