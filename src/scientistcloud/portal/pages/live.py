"""The stream of an open page: rows of jobs as they move, and the word when the page looks different."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from sse_starlette.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from scientistcloud.access.rules import Action
from scientistcloud.portal.api.events import STREAM_HEADERS, watcher
from scientistcloud.portal.dependencies import TheAsker, TheStore, find_dataset
from scientistcloud.portal.pages import words
from scientistcloud.portal.pages.rendering import fragment

router = APIRouter(include_in_schema=False)


@router.get("/events")
async def events(
    asker: TheAsker,
    request: Request,
    store: TheStore,
    seen: Annotated[str, Query()] = "",
    dataset: Annotated[str | None, Query()] = None,
) -> EventSourceResponse:
    """For htmx: unnamed messages bring rows; `changed` makes the parts of the page that listen fetch themselves.

    `seen`: the structure from which the page was made; nothing is fetched again while it is still so.
    """

    if dataset is not None:
        await run_in_threadpool(find_dataset, store, asker.person, dataset, Action.FOLLOW)

    async def stream() -> AsyncIterator[dict[str, str]]:
        async for change in watcher(request).changes(asker.person, dataset_uuid=dataset, seen=seen):
            if change.structure:
                yield {"event": "changed", "data": change.now.structure}
            parts = [
                f'<hx-partial hx-target="#job-{row.dataset.uuid}" hx-swap="outerMorph">'
                + fragment("job.html", row=row, words=words, csrf_token=asker.csrf_token or "")
                + "</hx-partial>"
                for row in change.rows
            ]
            if parts and not change.structure:
                yield {"data": "".join(parts)}

    return EventSourceResponse(stream(), headers=STREAM_HEADERS)
