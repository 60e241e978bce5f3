"""The bare viewer, which the data set's page shows in a frame.

Neuroglancer's client finds its server by the address of its page: from ``…/v/VIEW/`` it reads its state at
``…/events/VIEW`` and reports what the person did to ``…/state/VIEW``. VIEW is ``TOKEN.NAME``: the form's token
and the variable.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ValidationError
from sse_starlette.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from scientistcloud.access.rules import Action
from scientistcloud.errors import InvalidParameters, InvalidSettings, NotFound
from scientistcloud.portal.api.data import Publication, form_folder, pictures, publication
from scientistcloud.portal.api.events import STREAM_HEADERS, watcher
from scientistcloud.portal.dependencies import OwnPage, SeenDataset, TheSettings, TheStore, find_dataset
from scientistcloud.portal.forms import Picture, find_picture, pictures_of
from scientistcloud.portal.guards import VIEWER_POLICY
from scientistcloud.portal.pages.facts import origin_of
from scientistcloud.portal.viewer_state import CONFIGURATION, state_of
from scientistcloud.records import Dataset
from scientistcloud.settings import Settings

router = APIRouter(include_in_schema=False)

_CLIENT = Path(__file__).parents[1] / "static/vendor/neuroglancer/index.html"


@router.get("/view/{uuid}")
def open_viewer(
    dataset: SeenDataset, settings: TheSettings, variable: Annotated[str | None, Query()] = None
) -> Response:
    """To the viewer of the newest form."""
    shown = publication(dataset, settings)
    if shown is None:
        raise NotFound(f"data set {dataset.uuid} has no picture yet; its page shows how far it is")
    picture = find_picture(pictures(shown), variable)
    return RedirectResponse(viewer_address(dataset, shown, picture), HTTPStatus.SEE_OTHER)


@router.get("/view/{uuid}/v/{view}/")
def show(dataset: SeenDataset, view: str, settings: TheSettings) -> Response:
    """The viewer's page: its own client, with our hands on it."""
    _picture(dataset, view, settings)
    return HTMLResponse(_client_page(), headers={"Content-Security-Policy": VIEWER_POLICY})


@router.get("/view/{uuid}/events/{view}")
def events(
    dataset: SeenDataset,
    view: str,
    request: Request,
    settings: TheSettings,
    known: Annotated[str, Query(alias="gs")] = "",
) -> Response:
    """Configuration and state, once; a viewer that comes back keeps what the person did meanwhile."""
    picture, token = _picture(dataset, view, settings)
    source = f"{origin_of(request, settings)}/view-data/{dataset.uuid}/@{token}/{quote(picture.name)}/"
    messages = [] if known else [("c", CONFIGURATION), ("s", state_of(picture, source))]

    async def stream() -> AsyncIterator[dict[str, str]]:
        for kind, state in messages:
            yield {"data": json.dumps({"k": kind, "s": state, "g": view})}
        await watcher(request).closed.wait()  # nothing more to say

    return EventSourceResponse(stream(), headers=STREAM_HEADERS)


@router.post("/view/{uuid}/state/{view}")
async def keep_state(uuid: str, view: str, reader: OwnPage, store: TheStore, request: Request) -> dict[str, str]:
    """Acknowledge what the person did. It stays in the browser; nothing here changes."""
    await run_in_threadpool(find_dataset, store, reader, uuid, Action.SEE)
    try:
        said = _Reported.model_validate_json(await request.body())
    except ValidationError:
        raise InvalidParameters(f"this is no state of the viewer of {uuid} {view}; reload its page") from None
    return {"g": f"{said.c}/{said.g}"}


class _Reported(BaseModel):
    """The viewer's client (`c`), and how often its state changed (`g`); the state itself is not read."""

    c: str
    g: int


def viewer_address(dataset: Dataset, shown: Publication, picture: Picture) -> str:
    """Where the viewer shows `picture`."""
    return f"/view/{dataset.uuid}/v/{quote(f'{shown.token}.{picture.name}', safe='')}/"


def _picture(dataset: Dataset, view: str, settings: Settings) -> tuple[Picture, str]:
    token, _, name = view.partition(".")
    found = pictures_of(form_folder(dataset, settings, token), token)
    return find_picture(found, name), token


@cache
def _client_page() -> str:
    try:
        page = _CLIENT.read_text()
    except OSError as missing:
        raise InvalidSettings("the viewer's files are missing; install ScientistCloud again") from missing
    # From one place for all data sets, so that a browser fetches the viewer once.
    page = re.sub(r'(src|href)="([\w.]+)"', r'\1="/static/vendor/neuroglancer/\2"', page)
    ours = (
        '<link href="/static/mark.svg" rel="icon" type="image/svg+xml">'
        '<link href="/static/viewer-frame.css" rel="stylesheet">'
        '<script defer src="/static/viewer-frame.js"></script></head>'
    )
    return page.replace("</head>", ours).replace("<html>", '<html lang="en">')
