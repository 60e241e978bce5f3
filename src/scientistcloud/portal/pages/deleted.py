"""What was deleted and can be had back for some days."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from scientistcloud.datasets import retiring
from scientistcloud.portal.dependencies import DeletedDataset, TheAsker, TheSettings, TheStore
from scientistcloud.portal.live import snapshot
from scientistcloud.portal.pages.rendering import page
from scientistcloud.portal.pages.shell import shell

router = APIRouter(include_in_schema=False)

PAGE_ROWS = 100


@router.get("/deleted")
def show(
    request: Request,
    asker: TheAsker,
    store: TheStore,
    settings: TheSettings,
    just: Annotated[str | None, Query(description="The one that was deleted just now")] = None,
    after: Annotated[str | None, Query()] = None,
) -> Response:
    """The caller's deleted data sets, and when each will be removed."""
    found = store.datasets.find(user=asker.person.email, deleted=True, after=after, limit=PAGE_ROWS + 1)
    keep = timedelta(days=settings.keep_deleted_days)
    return page(
        "deleted.html",
        request,
        asker,
        shell=shell(store, asker.person),
        rows=[
            (dataset, dataset.deleted_at + keep, dataset.wanted is not None)
            for dataset in found[:PAGE_ROWS]
            if dataset.deleted_at is not None
        ],
        just=next((dataset for dataset in found if dataset.uuid == just), None),
        more=f"/deleted?after={found[PAGE_ROWS - 1].uuid}" if len(found) > PAGE_ROWS else None,
        seen=snapshot(store, asker.person).structure,
    )


@router.post("/datasets/{uuid}/restore")
def restore(dataset: DeletedDataset, store: TheStore) -> Response:
    """Have it back, and on to its page."""
    retiring.restore(store, dataset.uuid)
    return RedirectResponse(f"/datasets/{dataset.uuid}", HTTPStatus.SEE_OTHER)
