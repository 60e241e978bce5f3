"""What a data set's page says of it in words: its facts, how it was converted, and how to open it from Python."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from urllib.parse import quote

from fastapi import Request

from scientistcloud.errors import NotFound
from scientistcloud.layout import CONVERTED, CONVERTED_IDX
from scientistcloud.portal.api.data import Publication, is_idx
from scientistcloud.portal.forms import OURS, Picture, PictureAxis, metadata_of
from scientistcloud.portal.pages.rendering import number
from scientistcloud.portal.scans import Scan
from scientistcloud.records import Dataset, DatasetFile, Json
from scientistcloud.settings import Settings

_SYMBOLS = {
    "micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "centimeter": "cm", "meter": "m", "kilometer": "km",
    "angstrom": "Å", "picometer": "pm", "second": "s", "millisecond": "ms", "microsecond": "µs", "minute": "min",
    "hour": "h", "day": "d",
}  # fmt: skip


MOST_ENTRIES, LONGEST_ENTRY = 500, 2000
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def units(picture: Picture) -> str:
    """The unit of the values, its powers raised: ``m**2 s**-2`` and ``m2 s-2`` are m² s⁻²."""
    given = str(picture.attributes.get("units") or "")
    return re.sub(r"(?<=[A-Za-z])(?:\*\*|\^)?(-?\d{1,2})(?![\d.A-Za-z])", lambda m: m[1].translate(_RAISED), given)


def symbol(unit: str) -> str:
    return _SYMBOLS.get(unit, unit)


def details(dataset: Dataset, picture: Picture | None, scan: Scan | None = None) -> list[tuple[str, str]]:
    """Facts about what is shown, a picture or a scan, in the order in which one asks for them."""
    known: list[tuple[str, str]] = []
    if scan is not None:
        known += [(name, number(length)) for name, length in zip(scan.names, scan.shape, strict=True)]
        known.append(("Values", scan.dtype))
    elif picture is not None:
        known += [
            ("Channels" if axis.kind == "channel" else axis.name, number(axis.length) + _extent(axis))
            for axis in picture.axes
            if not (axis.kind == "channel" and picture.rgb)
        ]
        known.append(("Values", picture.dtype + (" RGB" if picture.rgb else "")))
        if unit := units(picture):
            known.append(("Unit", unit))
        known.append(("Levels", str(len(picture.levels))))
        known += [("Meaning", str(text)) for text in [picture.attributes.get("long_name")] if text]
        known += _place(picture)
    if dataset.sensor not in ("", "auto"):
        known.append(("Sensor", dataset.sensor))
    return known


def _place(picture: Picture) -> list[tuple[str, str]]:
    """Where a photograph was taken: degrees to the north and east, metres above the sea."""
    north, east, height = (picture.attributes.get(f"gps_{name}") for name in ("latitude", "longitude", "altitude"))
    known = []
    if isinstance(north, int | float) and isinstance(east, int | float):
        known.append(("Taken at", f"{north:.5f}, {east:.5f}"))
    if isinstance(height, int | float):
        known.append(("Altitude", f"{height:.0f} m"))
    return known


def how_converted(form: Json) -> list[tuple[str, str]]:
    """What was chosen, for whoever wants to choose otherwise."""
    known = [("Read with", str(form.get("reader", ""))), ("Shown first", str(form.get("source_array", "")))]
    if reason := form.get("reason"):
        known.append(("Because", str(reason)))
    shapes = [" × ".join(map(number, level["shape"])) for level in form.get("levels", ())]
    known.append(("Levels", " → ".join(shapes)))
    if made := form.get("reduction"):
        known.append(("Each made by", str(made)))
    for name, key in (("Chunk", "chunk"), ("Shard", "shard")):
        if lengths := form.get(key):
            known.append((name, " × ".join(map(number, lengths))))
    known.append(("Compression", str(form.get("codec", ""))))
    for array in form.get("arrays") or ():
        lengths, chunk = (" × ".join(map(number, array[key])) for key in ("shape", "chunk"))
        known.append((f"Kept whole as {array['path']}", f"{lengths} in chunks of {chunk}"))
    asked = {key: value for key, value in form.get("options", {}).items() if value not in ("auto", None)}
    known.append(
        ("Asked for", ", ".join(f"{key} {value}" for key, value in asked.items()) or "nothing: all chosen")
    )
    return [(name, value) for name, value in known if value]


def source_metadata(shown: Publication | None) -> list[tuple[str, str]]:
    """What the source says of itself, as its form keeps it: names with the groups they are in, and texts.

    At most `MOST_ENTRIES`, the beginning of long ones; [] where nothing is kept, and of IDX.
    """
    if shown is None or shown.idx:
        return []
    try:
        kept = metadata_of(shown.folder, "").get("attributes", {}).get(OURS, {}).get("source_metadata") or {}
    except NotFound:
        return []  # being replaced at this moment
    entries = list(islice(_entries(kept), MOST_ENTRIES))
    # What is above all of them, such as the name of the one file, is not said of each.
    parents = zip(*(names[:-1] for names, _ in entries), strict=False)
    above = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, parents))
    return [(" › ".join(names[above:]), text) for names, text in entries]


def _entries(value: object, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _entries(each, (*names, str(name)))
        return
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text.strip():
        yield names, text if len(text) <= LONGEST_ENTRY else f"{text[:LONGEST_ENTRY]} …"


def _extent(axis: PictureAxis) -> str:
    if not axis.unit:
        return ""
    return f" · {number(axis.scale)} {symbol(axis.unit)}"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A few lines that work as they stand."""

    title: str
    code: str
    note: str
    language: str = "Python"


def python_of(
    dataset: Dataset, array: str | None, request: Request, settings: Settings, *, here: bool
) -> list[Snippet]:
    """How to open it, whatever its form, `array` of OME-Zarr; [] before there is one.

    `here`: also by its path on this machine, which is nothing for people elsewhere.
    """
    if is_idx(dataset):
        return [idx_snippet(dataset, settings, here=here)]
    return snippets(dataset, array, request, settings, here=here) if array else []


def idx_snippet(dataset: Dataset, settings: Settings, *, here: bool) -> Snippet:
    """How to open the IDX of the data set from Python."""
    path = str(settings.folder.dataset(dataset.uuid).root / CONVERTED_IDX) if here else CONVERTED_IDX
    field = dataset.forms[-1]["images"][0]["fields"][0]
    return Snippet(
        "This machine" if here else "Where its files are",
        f"import OpenVisus as ov\n\ndata = ov.LoadDataset(\n    {path!r},\n)\ndata.read(field={field!r})\n",
        "Needs openvisusnogui; the folder of the blocks has to lie beside the header.",
    )


def origin_of(request: Request, settings: Settings) -> str:
    """Where the portal is reached: as the settings say, else as it was asked."""
    return settings.public_url.rstrip("/") or str(request.base_url).rstrip("/")


def snippets(dataset: Dataset, array: str, request: Request, settings: Settings, *, here: bool) -> list[Snippet]:
    """How to open `array` of the form from Python: by its path on this machine, by its address from anywhere."""
    level, _, variable = array.rpartition("/")
    origin = origin_of(request, settings)
    path = settings.folder.dataset(dataset.uuid).converted
    on_this_machine = Snippet(
        "This machine",
        "import xarray as xr\n\n"
        f"data = xr.open_zarr(\n    {str(path)!r},\n    group={level!r}, chunks=None,\n)\n"
        f"data[{variable!r}]\n",
        "Needs xarray and zarr.",
    )
    address = f"{origin}/data/{dataset.uuid}/{CONVERTED}"
    with_token = Snippet(
        "Anywhere",
        "import zarr\n\n"
        f"root = zarr.open_consolidated(\n    {address!r},\n"
        '    storage_options={"client_kwargs": {"headers":\n        {"Authorization": "Bearer TOKEN"}}},\n)\n'
        f"root[{array!r}][:]\n",
        "Needs zarr, fsspec and aiohttp; TOKEN is what scientistcloud serve printed.",
    )
    without = Snippet(
        "Anywhere",
        "import xarray as xr\n\n"
        f"data = xr.open_zarr(\n    {address!r},\n    group={level!r}, chunks=None,\n)\n"
        f"data[{variable!r}]\n",
        "Needs xarray, zarr, fsspec and aiohttp, and no token: it is public. The address opens in napari too.",
    )
    anywhere = without if dataset.public else with_token
    return [on_this_machine, anywhere] if here else [anywhere]


def fetching(
    dataset: Dataset, files: Sequence[DatasetFile], request: Request, settings: Settings
) -> Snippet | None:
    """How to fetch what is public from a terminal: its file, of several all as a zip; None where there is none."""
    if not files:
        return None
    path = f"source/{files[0].path}" if len(files) == 1 else "source.zip"
    address = shlex.quote(f"{origin_of(request, settings)}/data/{dataset.uuid}/{quote(path)}")
    name = shlex.quote(f"./{path.rpartition('/')[2]}")
    return Snippet(
        "Terminal",
        f"curl -fL -C - -o {name} \\\n  {address}\n\n# or\nwget -c {address}\n",
        "After a break the same line goes on where it was.",
        "Shell",
    )
