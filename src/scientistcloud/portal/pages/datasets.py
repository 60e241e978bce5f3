"""The list of data sets: cards, search, filters, the drop zone, and what is at work."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from scientistcloud.portal.api.data import preview_address, publication
from scientistcloud.portal.dependencies import TheAsker, TheSettings, TheStore
from scientistcloud.portal.live import Row, rows_of, snapshot
from scientistcloud.portal.pages import words
from scientistcloud.portal.pages.rendering import page, shape, size
from scientistcloud.portal.pages.shell import FILTERS, shell
from scientistcloud.records import Dataset, DatasetStatus
from scientistcloud.settings import Settings

router = APIRouter(include_in_schema=False)

PAGE_CARDS = 48


@router.get("/")
def show(
    request: Request,
    asker: TheAsker,
    store: TheStore,
    settings: TheSettings,
    q: Annotated[str, Query(max_length=200)] = "",
    show: Annotated[str, Query()] = "all",
    after: Annotated[str | None, Query()] = None,
) -> Response:
    """The caller's data sets, newest first."""
    chosen = show if show in FILTERS else "all"
    found = store.datasets.find(
        user=asker.person.email,
        statuses=FILTERS[chosen][1],
        text=q.strip() or None,
        after=after,
        limit=PAGE_CARDS + 1,
    )
    cards, more = found[:PAGE_CARDS], len(found) > PAGE_CARDS
    live = snapshot(store, asker.person)
    return page(
        "datasets.html",
        request,
        asker,
        shell=shell(store, asker.person),
        filters=FILTERS,
        chosen=chosen,
        q=q.strip(),
        after=after,
        cards=[card(row, settings) for row in rows_of(store, cards)],
        deleted=bool(store.datasets.find(user=asker.person.email, deleted=True, limit=1)),
        more=_address(q, chosen, cards[-1].uuid) if more else None,
        rows=list(live.rows.values()),
        seen=live.structure,
        words=words,
    )


def _address(q: str, chosen: str, after: str) -> str:
    given = {"q": q.strip(), "show": chosen if chosen != "all" else "", "after": after}
    return "/?" + urlencode({name: value for name, value in given.items() if value})


def card(row: Row, settings: Settings) -> dict[str, Any]:
    """What the card of a data set shows."""
    dataset = row.dataset
    # Where a conversion is at work on the first form, there may be a quick look.
    shown = publication(dataset, settings) if dataset.forms or dataset.status is DatasetStatus.CONVERTING else None
    return {
        "dataset": dataset,
        "state": words.state_of(row),
        "preview": shown and preview_address(dataset, shown),
        "quick": shown is not None and shown.quick,
        "facts": facts(dataset),
    }


def facts(dataset: Dataset) -> list[str]:
    """What a card says below the name: shape and type once known, size, sensor."""
    known: list[str] = []
    if dataset.forms:
        form = dataset.forms[-1]
        if lengths := form.get("shape"):
            kinds = [axis.get("kind") for axis in form.get("axes", ())]
            if form.get("rgb") and len(kinds) == len(lengths):
                lengths = [each for each, kind in zip(lengths, kinds, strict=True) if kind != "channel"]
            known.append(shape([each for each in lengths if each != 1] or lengths))
        if dtype := form.get("dtype"):
            known.append("RGB" if form.get("rgb") else str(dtype))
    if dataset.size_bytes:
        known.append(size(dataset.size_bytes))
    if dataset.sensor not in ("", "auto"):
        known.append(dataset.sensor)
    return known
