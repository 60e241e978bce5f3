"""The catalogue that needs no log-in: what people here have made public."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from scientistcloud.datasets.catalogue import AUTO
from scientistcloud.portal.dependencies import TheReader, TheSettings, TheStore
from scientistcloud.portal.live import Row, snapshot
from scientistcloud.portal.pages.datasets import PAGE_CARDS, card
from scientistcloud.portal.pages.rendering import page
from scientistcloud.portal.pages.shell import shell

router = APIRouter(include_in_schema=False)


@router.get("/public")
def show(
    request: Request,
    reader: TheReader,
    store: TheStore,
    settings: TheSettings,
    q: Annotated[str, Query(max_length=200)] = "",
    sensor: Annotated[str, Query(max_length=64)] = "",
    after: Annotated[str | None, Query()] = None,
) -> Response:
    """The public data sets, newest first, for whoever comes."""
    q = q.strip()
    found = store.datasets.find_public(text=q or None, sensor=sensor or None, after=after, limit=PAGE_CARDS + 1)
    cards = found[:PAGE_CARDS]
    sensors = store.datasets.public_sensors()
    return page(
        "public.html",
        request,
        reader,
        shell=shell(store, reader.person) if reader else None,
        seen=snapshot(store, reader.person).structure if reader else "",
        q=q,
        sensor=sensor,
        after=after,
        total=sum(sensors.values()),
        chips=[
            ("Not known yet" if name == AUTO else name, number, _address(q, name), name == sensor)
            for name, number in sorted(sensors.items(), key=lambda each: (-each[1], each[0]))
        ],
        every=_address(q, ""),
        # What is at work on it is its owner's to see: a card here has no job.
        cards=[card(Row(dataset, None), settings) for dataset in cards],
        more=_address(q, sensor, cards[-1].uuid) if len(found) > PAGE_CARDS else None,
    )


def _address(q: str, sensor: str, after: str = "") -> str:
    given = {name: value for name, value in (("q", q), ("sensor", sensor), ("after", after)) if value}
    return "/public" + (f"?{urlencode(given)}" if given else "")
