"""``scientistcloud inspect``: what would be read from a file, and why."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from scientistcloud.omezarr.image import Axis, Image, Source

_SHOWN_IMAGES = 20


@click.command("inspect")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--sensor", default="auto", show_default=True, help="The kind of source data; see `sensors`.")
@click.option("--array", help="The array to show first, by its name in the source.")
@click.option("--axes", metavar="T,Y,X", help="Names for the axes, in order.")
@click.option("--spacing", metavar="Z=2.5,Y=0.4", help="Spacing by axis, in the axis' unit.")
@click.option("--bands", metavar="OCN", help="The filter of a MAPIR camera, where its model does not say it.")
@click.option("--scan", metavar="3x4", help="Rows and columns of a scan whose frames come one after the other.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with the source's own metadata.")
def command(
    path: Path,
    *,
    sensor: str,
    array: str | None,
    axes: str | None,
    spacing: str | None,
    bands: str | None,
    scan: str | None,
    as_json: bool,
) -> None:
    """What would be read from PATH, a file or a folder, and why. Nothing is converted."""
    from scientistcloud.converters.overruled import options_from_text
    from scientistcloud.converters.registry import open_source

    options = options_from_text(array=array, axes=axes, spacing=spacing, bands=bands, scan=scan)
    reader = open_source(path, sensor=sensor, options=options)
    try:
        source = reader.describe()
    finally:
        reader.close()
    click.echo(json.dumps(_document(source), indent=1, ensure_ascii=False) if as_json else _text(path, source))


def _text(path: Path, source: Source) -> str:
    first, *others = source.images
    lines = [
        f"{path.name}: {source.sensor}, read with {source.reader}",
        f"  image   {first.name}: {source.reason}",
        f"  axes    {' · '.join(_axis(axis) for axis in first.axes)}",
        f"  values  {_values(first)}",
    ]
    if first.transposed:
        lines.append(f"  order   axis {', '.join(map(str, first.transposed))} of the source, counted from 0")
    if first.channels:
        kind = " (shown as colours of one picture)" if first.rgb else ""
        lines.append(f"  colours {', '.join(channel.label for channel in first.channels)}{kind}")
    if first.coordinates:
        lines.append(f"  with    {', '.join(f'{c.name} ({_names(c.dims)})' for c in first.coordinates)}")
    for image in others[:_SHOWN_IMAGES]:
        shape = " × ".join(f"{axis.name} {axis.length:,}" for axis in image.axes)
        lines.append(f"  also    {image.name} from {image.source_name}: {shape}, {image.dtype}")
    if len(others) > _SHOWN_IMAGES:
        lines.append(f"  also    {len(others) - _SHOWN_IMAGES} more, all of them with --json")
    for array in source.arrays:
        shape = " × ".join(f"{axis.name} {axis.length:,}" for axis in array.image.axes)
        lines.append(f"  whole   {array.path} from {array.image.source_name}: {shape}, {array.image.dtype}")
    lines += [f"  note    {warning}" for warning in source.warnings]
    return "\n".join(lines)


def _axis(axis: Axis) -> str:
    kind = "" if axis.kind == "space" else f" ({axis.kind})"
    spacing = "" if axis.spacing is None else f" every {axis.spacing:.6g}{f' {axis.unit}' if axis.unit else ''}"
    return f"{axis.name} {axis.length:,}{kind}{spacing}"


def _values(image: Image) -> str:
    said = image.attributes
    size = math.prod(image.shape) * image.dtype.itemsize
    parts = [f"{image.dtype}, {size / (1 << 20):,.1f} MiB"]
    if units := said.get("units"):
        parts.append(f"in {units}")
    if "scale_factor" in said or "add_offset" in said:
        parts.append(f"packed: × {said.get('scale_factor', 1):g} + {said.get('add_offset', 0):g}")
    if image.fill:
        parts.append(f"no data where {' or '.join(f'{value:g}' for value in image.fill)}")
    return ", ".join(parts)


def _names(dims: tuple[str, ...]) -> str:
    return ", ".join(dims) or "one value"


def _document(source: Source) -> dict[str, Any]:
    return {
        "sensor": source.sensor,
        "reader": source.reader,
        "reason": source.reason,
        "images": [_image(image) for image in source.images],
        "arrays": [{"path": array.path, **_image(array.image)} for array in source.arrays],
        "warnings": list(source.warnings),
        "metadata": _plain(source.metadata),
    }


def _image(image: Image) -> dict[str, Any]:
    axes = [
        {
            "name": axis.name,
            "kind": axis.kind.value,
            "length": axis.length,
            "spacing": axis.spacing,
            "origin": axis.origin,
            "unit": axis.unit,
        }
        for axis in image.axes
    ]
    return {
        "name": image.name,
        "source": image.source_name,
        "axes": axes,
        "shape": list(image.shape),
        "dtype": image.dtype.name,
        "units": _plain(image.attributes.get("units")),
        "attributes": _plain(image.attributes),
        "fill": _plain(image.fill),
        "valid_range": _plain(image.valid_range),
        "reduction": image.reduction.value if image.reduction else None,
        "channels": [channel.label for channel in image.channels],
        "rgb": image.rgb,
        "transposed": list(image.transposed) if image.transposed else None,
        "coordinates": [
            {"name": each.name, "dims": list(each.dims), "attributes": _plain(each.attributes)}
            for each in image.coordinates
        ],
    }


def _plain(value: Any) -> Any:
    """JSON without NumPy scalars, and without NaN, which JSON does not know."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    match value:
        case dict():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case float() if not math.isfinite(value):
            return repr(value)
        case _:
            return value
