"""One data set: the viewer with its controls, how it stands, files, jobs, and how to use it from Python."""

from __future__ import annotations

import json
import re
import uuid as uuids
from dataclasses import dataclass
from http import HTTPStatus
from math import sqrt
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from scientistcloud.access.rules import Action, may
from scientistcloud.datasets import retiring
from scientistcloud.datasets.wanted import CONVERSION_OPTIONS
from scientistcloud.errors import NotFound
from scientistcloud.layout import CONVERTED, CONVERTED_IDX
from scientistcloud.portal import viewer_state
from scientistcloud.portal.api.data import Publication, is_idx, pictures, publication, value_address
from scientistcloud.portal.api.datasets import TheProcessor
from scientistcloud.portal.colours import COLOUR_MAPS
from scientistcloud.portal.dependencies import ChangedDataset, SeenDataset, TheAsker, TheSettings, TheStore
from scientistcloud.portal.forms import Histogram, Picture, PictureAxis, find_picture
from scientistcloud.portal.live import Row, snapshot
from scientistcloud.portal.pages import words
from scientistcloud.portal.pages.rendering import number, page
from scientistcloud.portal.pages.shell import shell
from scientistcloud.portal.pages.view import viewer_address
from scientistcloud.records import Dataset, Json
from scientistcloud.settings import Settings

router = APIRouter(include_in_schema=False)

PAGE_FILES = 200


@router.get("/datasets/{uuid}")
def show(
    dataset: SeenDataset,
    request: Request,
    asker: TheAsker,
    store: TheStore,
    settings: TheSettings,
    variable: Annotated[str | None, Query()] = None,
    after: Annotated[str | None, Query(description="The last file of the page before")] = None,
) -> Response:
    """The page of a data set."""
    live = snapshot(store, asker.person, dataset.uuid)
    row = live.rows.get(dataset.uuid) or Row(dataset, None)
    shown = publication(dataset, settings)
    found = _pictures(shown)
    picture = find_picture(found, variable) if found else None
    files = store.datasets.files(dataset.uuid, after=after, limit=PAGE_FILES + 1)
    jobs = store.jobs.find(dataset_uuid=dataset.uuid, limit=100)
    return page(
        "dataset.html",
        request,
        asker,
        shell=shell(store, asker.person),
        dataset=dataset,
        form=dataset.forms[-1] if dataset.forms else None,
        shown=shown,
        row=row,
        state=words.state_of(row),
        jobs=jobs[::-1],
        may_change=may(asker.person, dataset, Action.CHANGE),
        pictures=found,
        picture=picture,
        panel=panel(dataset, shown, picture) if picture and shown else None,
        details=details(dataset, picture),
        idx=is_idx(dataset),
        is_open=dataset.closed_at is None,
        conversion=how_converted(dataset.forms[-1]) if dataset.forms else [],
        asked=_asked(dataset, row),
        request_id=str(uuids.uuid4()),
        files=files[:PAGE_FILES],
        more_files=files[PAGE_FILES - 1].path if len(files) > PAGE_FILES else None,
        snippets=[] if shown and shown.quick else _snippets(dataset, picture, request, settings),
        seen=live.structure,
        words=words,
        quote=quote,
    )


def _asked(dataset: Dataset, row: Row) -> Json:
    """What was overruled of the newest conversion: of the one that failed, where none has succeeded yet."""
    if dataset.forms:
        options: Json = dataset.forms[-1].get("options", {})
        return options
    parameters = row.job.parameters if row.job else {}
    return {key: value for key, value in parameters.items() if key in CONVERSION_OPTIONS}


@router.post("/datasets/{uuid}/open")
def open_again(dataset: ChangedDataset, processor: TheProcessor) -> Response:
    """Open it for more files, and back to its page."""
    processor.reopen(dataset.uuid)
    return RedirectResponse(f"/datasets/{dataset.uuid}#files", HTTPStatus.SEE_OTHER)


@router.post("/datasets/{uuid}/close")
def close(dataset: ChangedDataset, processor: TheProcessor, convert: Annotated[bool, Form()] = True) -> Response:
    """All files are there; back to its page."""
    processor.close(dataset.uuid, convert=convert)
    return RedirectResponse(f"/datasets/{dataset.uuid}", HTTPStatus.SEE_OTHER)


@router.post("/datasets/{uuid}/remove")
def remove_file(dataset: ChangedDataset, processor: TheProcessor, path: Annotated[str, Form()]) -> Response:
    """Remove one file of an open data set, and back to the others."""
    processor.remove_file(dataset.uuid, path)
    return RedirectResponse(f"/datasets/{dataset.uuid}#files", HTTPStatus.SEE_OTHER)


@router.post("/datasets/{uuid}/delete")
def delete(dataset: ChangedDataset, store: TheStore) -> Response:
    """Delete it, and on to the list, which offers to have it back."""
    retiring.delete(store, dataset.uuid)
    return RedirectResponse(f"/deleted?just={dataset.uuid}", HTTPStatus.SEE_OTHER)


def _pictures(shown: Publication | None) -> tuple[Picture, ...]:
    try:
        return pictures(shown)
    except NotFound:
        return ()  # being replaced at this moment: the page says how it stands, and fetches itself again


# -- the controls beside the viewer --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slider:
    """An axis that is not on the screen: time, a custom axis, or z while one plane is shown."""

    name: str
    label: str
    length: int
    index: int
    scale: float
    origin: float
    unit: str
    #: True: shown only while the layout is one plane, since the other layouts show this axis.
    depth: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """What the controls beside the viewer need to know."""

    address: str
    sliders: tuple[Slider, ...]
    volume: bool
    rgb: bool
    #: Name, colour (RRGGBB) and whether shown, for each of several channels; () where there is one.
    channels: tuple[tuple[str, str, bool], ...]
    #: For each channel (one for RGB): what the contrast control works on.
    contrasts: tuple[dict[str, Any], ...]
    #: For each contrast, paths of an SVG 256 × 64.
    histograms: tuple[tuple[str, ...], ...]
    maps: tuple[dict[str, Any], ...]
    units: str
    #: Stored values that mean "no data".
    missing: tuple[float | int, ...]
    #: The names of the picture's axes, in order.
    axes: tuple[str, ...]
    #: Where the value stored at a place can be asked for, if what is shown is not it.
    exact: str | None

    @property
    def for_script(self) -> str:
        """What the page's script works with."""
        return json.dumps(
            {
                "contrasts": self.contrasts,
                "sliders": [
                    {
                        "name": each.name, "length": each.length, "scale": each.scale, "origin": each.origin,
                        "unit": each.unit, "depth": each.depth,
                    }
                    for each in self.sliders
                ],
                "rgb": self.rgb,
                "volume": self.volume,
                "units": self.units,
                "missing": self.missing,
                "axes": self.axes,
                "exact": self.exact,
            }
        )  # fmt: skip


def panel(dataset: Dataset, shown: Publication, picture: Picture) -> Panel:
    """The controls for `picture`."""
    on_screen = viewer_state.shown_axes(picture)
    several = len(picture.channels) > 1 and not picture.rgb
    moved = [axis for axis in picture.axes if axis not in on_screen and axis.kind != "channel"]
    sliders = [_slider(axis, depth=False) for axis in moved if axis.length > 1]
    if len(on_screen) == 3 and on_screen[2].length > 1:
        sliders.append(_slider(on_screen[2], depth=True))
    contrasts = _contrasts(picture)
    histograms = _histograms(picture)
    return Panel(
        address=viewer_address(dataset, shown, picture),
        sliders=tuple(sliders),
        volume=len(on_screen) == 3,
        rgb=picture.rgb,
        channels=tuple(
            (str(each.get("label") or f"channel {index}"), str(each.get("color") or "FFFFFF"), True)
            for index, each in enumerate(picture.channels[: viewer_state.MOST_CHANNELS])
        )
        if several
        else (),
        contrasts=contrasts,
        histograms=histograms,
        maps=()
        if several or picture.rgb
        else tuple(
            {
                "name": each.name,
                "label": each.label,
                "stops": each.stops,
                "shader": viewer_state.shader(picture, each),
                "chosen": each.name == viewer_state.first_map(picture),
            }
            for each in COLOUR_MAPS.values()
        ),
        units=units(picture),
        missing=viewer_state.missing_values(picture),
        axes=tuple(axis.name for axis in picture.axes),
        exact=value_address(dataset, shown, picture) if picture.made_float32 and not picture.channel_axis else None,
    )


def _slider(axis: PictureAxis, *, depth: bool) -> Slider:
    return Slider(
        name=axis.name,
        label={"t": "Time", "z": "z"}.get(axis.name, axis.name),
        length=axis.length,
        index=axis.length // 2,
        scale=axis.scale,
        origin=axis.origin,
        unit=_symbol(axis.unit),
        depth=depth,
    )


def _contrasts(picture: Picture) -> tuple[dict[str, Any], ...]:
    factor, offset = (_number(picture.attributes.get(name), default) for name, default in _PACKING)
    channels = picture.channels[:1] if picture.rgb else picture.channels[: viewer_state.MOST_CHANNELS]
    out = []
    for index, channel in enumerate(channels):
        window = viewer_state.window_of(channel)
        if window is None:
            continue
        start, end, low, high = window
        histogram = picture.histograms[index] if index < len(picture.histograms) else None
        # The track is as wide as the histogram, which leaves out the far tails; typed numbers go to min and max.
        out.append(
            {
                "start": start,
                "end": end,
                "min": low,
                "max": high,
                "low": histogram.low if histogram else low,
                "high": histogram.high if histogram else high,
                "factor": factor,
                "offset": offset,
            }
        )
    return tuple(out)


_PACKING = (("scale_factor", 1.0), ("add_offset", 0.0))


def _number(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def _histograms(picture: Picture) -> tuple[tuple[str, ...], ...]:
    if picture.rgb:
        return (tuple(outline(each) for each in picture.histograms[:3]),)
    reverse = picture.upside_down
    return tuple((outline(each, reverse=reverse),) for each in picture.histograms)


def outline(histogram: Histogram, *, reverse: bool = False) -> str:
    """The histogram as an SVG path in a box of 256 × 64, roots of the counts so that small ones show."""
    counts = histogram.counts[::-1] if reverse else histogram.counts
    tallest = sqrt(max(counts)) or 1.0
    width = 256 / len(counts)
    steps = [f"M0 64V{64 - 62 * sqrt(counts[0]) / tallest:.1f}"]
    steps += [f"H{width * (i + 1):.1f}V{64 - 62 * sqrt(n) / tallest:.1f}" for i, n in enumerate((*counts[1:], 0))]
    return "".join(steps) + "V64Z"


# -- the words beside it -------------------------------------------------------------------------

_SYMBOLS = {
    "micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "centimeter": "cm", "meter": "m", "kilometer": "km",
    "angstrom": "Å", "picometer": "pm", "second": "s", "millisecond": "ms", "microsecond": "µs", "minute": "min",
    "hour": "h", "day": "d",
}  # fmt: skip


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def units(picture: Picture) -> str:
    """The unit of the values, its powers raised: ``m**2 s**-2`` and ``m2 s-2`` are m² s⁻²."""
    given = str(picture.attributes.get("units") or "")
    return re.sub(r"(?<=[A-Za-z])(?:\*\*|\^)?(-?\d{1,2})(?![\d.A-Za-z])", lambda m: m[1].translate(_RAISED), given)


def _symbol(unit: str) -> str:
    return _SYMBOLS.get(unit, unit)


def details(dataset: Dataset, picture: Picture | None) -> list[tuple[str, str]]:
    """Facts about the data set, in the order in which one asks for them."""
    known: list[tuple[str, str]] = []
    if picture is not None:
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
    asked = {key: value for key, value in form.get("options", {}).items() if value not in ("auto", None)}
    known.append(
        ("Asked for", ", ".join(f"{key} {value}" for key, value in asked.items()) or "nothing: all chosen")
    )
    return [(name, value) for name, value in known if value]


def _extent(axis: PictureAxis) -> str:
    if not axis.unit:
        return ""
    return f" · {number(axis.scale)} {_symbol(axis.unit)}"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A few lines of Python that work as they stand."""

    title: str
    code: str
    note: str


def _snippets(dataset: Dataset, picture: Picture | None, request: Request, settings: Settings) -> list[Snippet]:
    if is_idx(dataset):
        return [idx_snippet(dataset, settings)]
    return snippets(dataset, picture, request, settings) if picture else []


def idx_snippet(dataset: Dataset, settings: Settings) -> Snippet:
    """How to open the IDX of the data set from Python."""
    path = str(settings.folder.dataset(dataset.uuid).root / CONVERTED_IDX) if settings.loopback else CONVERTED_IDX
    field = dataset.forms[-1]["images"][0]["fields"][0]
    return Snippet(
        "This machine" if settings.loopback else "Where its files are",
        f"import OpenVisus as ov\n\ndata = ov.LoadDataset(\n    {path!r},\n)\ndata.read(field={field!r})\n",
        "Needs openvisusnogui; the folder of the blocks has to lie beside the header.",
    )


def snippets(dataset: Dataset, picture: Picture, request: Request, settings: Settings) -> list[Snippet]:
    """How to open `picture` from Python: by its path on this machine, and by its address from anywhere."""
    level, _, variable = picture.levels[0].rpartition("/")
    origin = settings.public_url.rstrip("/") or str(request.base_url).rstrip("/")
    path = settings.folder.dataset(dataset.uuid).converted
    here = Snippet(
        "This machine",
        "import xarray as xr\n\n"
        f"data = xr.open_zarr(\n    {str(path)!r},\n    group={level!r}, chunks=None,\n)\n"
        f"data[{variable!r}]\n",
        "Needs xarray and zarr.",
    )
    anywhere = Snippet(
        "Anywhere",
        "import zarr\n\n"
        f"root = zarr.open_consolidated(\n    {f'{origin}/data/{dataset.uuid}/{CONVERTED}'!r},\n"
        '    storage_options={"client_kwargs": {"headers":\n        {"Authorization": "Bearer TOKEN"}}},\n)\n'
        f"root[{picture.levels[0]!r}][:]\n",
        "Needs zarr, fsspec and aiohttp; TOKEN is what scientistcloud serve printed.",
    )
    return [here, anywhere] if settings.loopback else [anywhere]
