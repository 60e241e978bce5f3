"""Jobs: what runs and waits, and one job with its log; cancel and retry, also without a script."""

from __future__ import annotations

import os
from http import HTTPStatus
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from scientistcloud.datasets import steering
from scientistcloud.jobs.steering import steer_type
from scientistcloud.portal.api.jobs import retry_failed
from scientistcloud.portal.api.queue import overview
from scientistcloud.portal.dependencies import (
    ChangedJob,
    Operator,
    SeenJob,
    TheAsker,
    TheSettings,
    TheStats,
    TheStore,
)
from scientistcloud.portal.live import row_of, rows_of, snapshot
from scientistcloud.portal.pages import words
from scientistcloud.portal.pages.login import here
from scientistcloud.portal.pages.rendering import fragment, page
from scientistcloud.portal.pages.shell import FILTERS, shell

router = APIRouter(include_in_schema=False)

PAGE_ROWS = 100
LOG_BYTES = 64 * 1024


@router.get("/jobs")
def show(
    request: Request,
    asker: TheAsker,
    store: TheStore,
    stats: TheStats,
    show: Annotated[str, Query()] = "all",
    after: Annotated[str | None, Query()] = None,
) -> Response:
    """The caller's data sets with the job that matters most to each."""
    chosen = show if show in FILTERS else "all"
    datasets = store.datasets.find(
        user=asker.person.email, statuses=FILTERS[chosen][1], after=after, limit=PAGE_ROWS + 1
    )
    rows = rows_of(store, datasets[:PAGE_ROWS])
    more = f"/jobs?show={chosen}&after={rows[-1].dataset.uuid}" if len(datasets) > PAGE_ROWS else None
    return page(
        "jobs.html",
        request,
        asker,
        shell=shell(store, asker.person),
        filters=FILTERS,
        chosen=chosen,
        rows=rows,
        more=more,
        queue=overview(store, stats) if asker.person.operator else None,
        seen=snapshot(store, asker.person).structure,
        words=words,
    )


@router.get("/jobs/{job_id}")
def show_one(job: SeenJob, request: Request, asker: TheAsker, store: TheStore, settings: TheSettings) -> Response:
    """One job: attempts, parameters, log."""
    dataset = store.datasets.get(job.dataset_uuid)
    assert dataset is not None  # SeenJob found it
    row = row_of(store, dataset, job)
    return page(
        "one_job.html",
        request,
        asker,
        shell=shell(store, asker.person),
        row=row,
        job=job,
        log=tail(settings.folder.log(job.job_id)),
        seen=snapshot(store, asker.person, dataset.uuid).structure,
        words=words,
    )


@router.get("/jobs/{job_id}/log")
def show_log(job: SeenJob, settings: TheSettings) -> Response:
    """The end of the log, for the page that follows it."""
    return HTMLResponse(fragment("log.html", job=job, log=tail(settings.folder.log(job.job_id))))


@router.post("/jobs/retry-failed")
def retry_all_failed(asker: TheAsker, request: Request, store: TheStore) -> Response:
    """Retry what failed last on each of the caller's data sets, and back to the page."""
    retry_failed(store, asker.person)
    return _back(request)


@router.post("/jobs/types/{job_type}/pause")
def pause_type(job_type: str, _operator: Operator, request: Request, store: TheStore) -> Response:
    """Hand out no job of the type, and back to the page."""
    steer_type(store, job_type, paused=True)
    return _back(request)


@router.post("/jobs/types/{job_type}/resume")
def resume_type(job_type: str, _operator: Operator, request: Request, store: TheStore) -> Response:
    """Hand out jobs of the type again, and back to the page."""
    steer_type(store, job_type, paused=False)
    return _back(request)


@router.post("/jobs/{job_id}/cancel")
def cancel_job(job: ChangedJob, request: Request, store: TheStore) -> Response:
    """Cancel, and back to the page."""
    steering.cancel(store, job.job_id)
    return _back(request)


@router.post("/jobs/{job_id}/retry")
def retry_job(job: ChangedJob, request: Request, store: TheStore) -> Response:
    """Retry, and back to the page."""
    steering.retry(store, job.job_id)
    return _back(request)


def tail(log: Path) -> str:
    """The last `LOG_BYTES` of a job's log, from a line's beginning; "" before there is one."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - LOG_BYTES))
            text = file.read(LOG_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return ""
    return text if end <= LOG_BYTES else "…\n" + text.partition("\n")[2]


def _back(request: Request) -> Response:
    if request.headers.get("hx-request"):
        return Response(status_code=HTTPStatus.NO_CONTENT)  # the event stream brings the news
    # Only the path of where the form stood counts, so this never leads to another site.
    came_from = urlsplit(request.headers.get("referer", "")).path
    return RedirectResponse(here(came_from) if came_from else "/jobs", HTTPStatus.SEE_OTHER)
