"""What changes, as it changes: server-sent events of what the caller may see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, cast

from fastapi import APIRouter, Query, Request
from sse_starlette.sse import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from scientistcloud.access.rules import Action
from scientistcloud.portal.api.jobs import row_of
from scientistcloud.portal.dependencies import Caller, TheStore, find_dataset
from scientistcloud.portal.live import Watcher

router = APIRouter(tags=["jobs"])

STREAM_HEADERS = {"X-Accel-Buffering": "no"}


@router.get("/api/events", response_class=EventSourceResponse)
async def events(
    caller: Caller,
    request: Request,
    store: TheStore,
    dataset: Annotated[str | None, Query(description="Only this data set, whatever its status")] = None,
) -> EventSourceResponse:
    """Begins with the state, then tells each change; a job at most four times a second.

    Event `job`: a row as `GET /api/jobs` has them. Event `gone`: `{"dataset_uuid": …}`, it is at work no more.
    """

    if dataset is not None:
        await run_in_threadpool(find_dataset, store, caller, dataset, Action.FOLLOW)

    async def stream() -> AsyncIterator[dict[str, str]]:
        before: set[str] = set()
        async for change in watcher(request).changes(caller, dataset_uuid=dataset):
            for row in change.rows:
                yield {"event": "job", "data": row_of(row.dataset, row.job).model_dump_json()}
            for uuid in sorted(before - set(change.now.rows)):
                yield {"event": "gone", "data": f'{{"dataset_uuid": "{uuid}"}}'}
            before = set(change.now.rows)

    return EventSourceResponse(stream(), headers=STREAM_HEADERS)


def watcher(request: Request) -> Watcher:
    """The watcher of this process."""
    return cast("Watcher", request.app.state.watcher)
