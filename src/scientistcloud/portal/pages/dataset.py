"""One data set: the viewer with its controls, how it stands, files, jobs, and how to use it from Python."""

from __future__ import annotations

import uuid as uuids
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from scientistcloud.access.rules import Action, may
from scientistcloud.datasets import catalogue, retiring
from scientistcloud.datasets.wanted import CONVERSION_OPTIONS
from scientistcloud.errors import NotFound
from scientistcloud.portal.api.data import Publication, is_idx, pictures, preview_address, publication
from scientistcloud.portal.api.datasets import TheProcessor
from scientistcloud.portal.dependencies import ChangedDataset, SeenDataset, TheReader, TheSettings, TheStore
from scientistcloud.portal.forms import Picture, find_picture
from scientistcloud.portal.live import Row, snapshot
from scientistcloud.portal.pages import words
from scientistcloud.portal.pages.citing import citation, schema_org
from scientistcloud.portal.pages.datasets import facts
from scientistcloud.portal.pages.facts import (
    details,
    fetching,
    how_converted,
    origin_of,
    python_of,
    source_metadata,
)
from scientistcloud.portal.pages.panel import panel
from scientistcloud.portal.pages.rendering import page
from scientistcloud.portal.pages.scan import scan_panel
from scientistcloud.portal.pages.shell import shell
from scientistcloud.records import Dataset, Json

router = APIRouter(include_in_schema=False)

PAGE_FILES = 200


@router.get("/datasets/{uuid}")
def show(
    dataset: SeenDataset,
    request: Request,
    reader: TheReader,
    store: TheStore,
    settings: TheSettings,
    variable: Annotated[str | None, Query()] = None,
    after: Annotated[str | None, Query(description="The last file of the page before")] = None,
) -> Response:
    """The page of a data set; of a public one without a log-in too."""
    person = reader.person if reader else None
    follows = may(person, dataset, Action.FOLLOW)
    live = snapshot(store, person, dataset.uuid if follows else None) if person else None
    row = (live.rows.get(dataset.uuid) if live else None) or Row(dataset, None)
    shown = publication(dataset, settings)
    found = _pictures(shown)
    picture = find_picture(found, variable or None) if found else None
    scan = scan_panel(dataset, shown, found)
    picked = None if variable else scan
    array = picked.scan.path if picked else picture.levels[0] if picture else None
    files = store.datasets.files(dataset.uuid, after=after, limit=PAGE_FILES + 1)
    jobs = store.jobs.find(dataset_uuid=dataset.uuid, limit=100) if follows else []
    snippets = (
        []
        if shown and shown.quick
        else python_of(dataset, array, request, settings, here=follows and settings.loopback)
    )
    origin = origin_of(request, settings)
    if dataset.public and (fetched := fetching(dataset, files, request, settings)):
        snippets.append(fetched)
    return page(
        "dataset.html",
        request,
        reader,
        shell=shell(store, person) if person else None,
        dataset=dataset,
        form=dataset.forms[-1] if dataset.forms else None,
        shown=shown,
        preview=shown and preview_address(dataset, shown),
        row=row,
        state=words.state_of(row),
        jobs=jobs[::-1],
        may_follow=follows,
        may_change=may(person, dataset, Action.CHANGE),
        pictures=found,
        picture=picture,
        panel=panel(dataset, shown, picture) if picture and shown else None,
        scan=picked,
        scan_there=scan is not None,
        details=details(dataset, picture, picked.scan if picked else None),
        idx=is_idx(dataset),
        is_open=dataset.closed_at is None,
        conversion=how_converted(dataset.forms[-1]) if dataset.forms else [],
        source_metadata=source_metadata(shown),
        asked=_asked(dataset, row),
        request_id=str(uuids.uuid4()),
        files=files[:PAGE_FILES],
        more_files=files[PAGE_FILES - 1].path if len(files) > PAGE_FILES else None,
        snippets=snippets,
        permanent=f"{origin}/datasets/{dataset.uuid}",
        cited=citation(dataset, origin=origin) if dataset.public else None,
        about_it=schema_org(dataset, found, origin=origin, facts=facts(dataset)) if dataset.public else None,
        seen=live.structure if live else "",
        words=words,
        quote=quote,
    )


def _asked(dataset: Dataset, row: Row) -> Json:
    """What was overruled of the newest conversion: of the one that failed, where none has succeeded yet."""
    if dataset.forms:
        options: Json = dataset.forms[-1].get("options", {})
        return options
    parameters = dict(row.job.parameters) if row.job else {}
    parameters |= parameters.get("options") or {}  # of an unpacking: they are kept for the conversion after it
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


@router.post("/datasets/{uuid}/share")
def share(dataset: ChangedDataset, store: TheStore, public: Annotated[bool, Form()]) -> Response:
    """Show it to everybody, or to its owner alone, and back to its page."""
    catalogue.describe(store, dataset.uuid, public=public)
    return RedirectResponse(f"/datasets/{dataset.uuid}", HTTPStatus.SEE_OTHER)


@router.post("/datasets/{uuid}/describe")
def describe(
    dataset: ChangedDataset,
    store: TheStore,
    name: Annotated[str, Form()],
    description: Annotated[str, Form()] = "",
    tags: Annotated[str, Form(description="With commas between them")] = "",
) -> Response:
    """Write its name, description and tags, and back to its page."""
    each = [tag.strip() for tag in tags.split(",")]
    catalogue.describe(store, dataset.uuid, name=name, description=description, tags=[tag for tag in each if tag])
    return RedirectResponse(f"/datasets/{dataset.uuid}", HTTPStatus.SEE_OTHER)


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
