"""The portal, put together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response

from scientistcloud import __version__
from scientistcloud.errors import ScientistCloudError
from scientistcloud.portal.api import (
    batches,
    data,
    datasets,
    downloads,
    events,
    health,
    imports,
    jobs,
    metrics,
    public,
    queue,
    scans,
    uploads,
)
from scientistcloud.portal.decoding import Decoding
from scientistcloud.portal.dependencies import Caller, Gate
from scientistcloud.portal.gathering import Gathering
from scientistcloud.portal.guards import (
    AccessLog,
    KnownHosts,
    SecurityHeaders,
    SmallBodies,
    add_security_headers,
)
from scientistcloud.portal.live import Watcher
from scientistcloud.portal.pages import convert as convert_form
from scientistcloud.portal.pages import dataset as dataset_page
from scientistcloud.portal.pages import datasets as datasets_page
from scientistcloud.portal.pages import deleted as deleted_page
from scientistcloud.portal.pages import imports as import_page
from scientistcloud.portal.pages import jobs as jobs_page
from scientistcloud.portal.pages import live as live_rows
from scientistcloud.portal.pages import login, view
from scientistcloud.portal.pages import public as public_page
from scientistcloud.portal.pages.errors import page_of_problem
from scientistcloud.portal.problems import Problem, answer, problem_of
from scientistcloud.portal.recent import RecentStats
from scientistcloud.portal.static_files import PublicFiles
from scientistcloud.portal.tending import tending
from scientistcloud.ports import Store
from scientistcloud.settings import MIB, Settings
from scientistcloud.uploads.folder import Limits
from scientistcloud.uploads.processor import UploadProcessor

_LOG = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
FOR_PROGRAMS = (
    "/api/",
    "/data/",
    "/view-data/",
    "/scan-data/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/static/",
    "/viewer/",
)
STREAMS_ITS_BODY = ("/api/uploads",)
BODY_LIMIT_BYTES = 2 * MIB


def create_app(settings: Settings, store: Store) -> FastAPI:
    """The portal on `store`, which stays the caller's to close.

    Raises `InvalidSettings` where the log-in token cannot be kept.
    """
    app = FastAPI(
        title="ScientistCloud",
        version=__version__,
        openapi_url=None,  # served below, behind the log-in like everything else
        docs_url=None,  # FastAPI's pages load their scripts from a CDN
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.state.store = store
    app.state.gate = Gate(settings, store)
    app.state.watcher = Watcher(store)
    app.state.stats = RecentStats(store)
    app.state.decoding = Decoding()
    app.state.decoding_for_readers = app.state.decoding.for_readers()
    app.state.processor = UploadProcessor(
        store,
        data_dir=settings.data_dir,
        limits=Limits.of(settings),
        max_pending_per_dataset=settings.max_pending_per_dataset,
        max_parameters_bytes=settings.max_parameters_bytes,
    )
    app.state.gathering = Gathering(app.state.processor)

    app.mount("/static", PublicFiles(directory=STATIC), name="static")
    for module in (
        health,
        metrics,
        batches,
        uploads,
        imports,
        public,
        datasets,
        jobs,
        queue,
        events,
        downloads,
        scans,
        data,
    ):
        app.include_router(module.router)
    for page in (
        login,
        public_page,
        datasets_page,
        deleted_page,
        dataset_page,
        convert_form,
        import_page,
        jobs_page,
        live_rows,
    ):
        app.include_router(page.router)
    app.include_router(view.router)
    _serve_openapi(app)
    _answer_errors(app)

    # The last one added is the outermost.
    app.add_middleware(login.LogInByAddress)
    app.add_middleware(SmallBodies, limit_bytes=BODY_LIMIT_BYTES, streaming=STREAMS_ITS_BODY)
    if settings.loopback:
        app.add_middleware(KnownHosts, hosts=_hosts(settings))
    app.add_middleware(SecurityHeaders)
    app.add_middleware(AccessLog)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with tending(app.state.processor):
        try:
            yield
        finally:
            app.state.watcher.close()
            app.state.decoding.close()
            app.state.gathering.close()


def _hosts(settings: Settings) -> set[str]:
    public = urlsplit(settings.public_url).hostname
    return {"127.0.0.1", "localhost", "[::1]"} | ({public} if public else set())


def _serve_openapi(app: FastAPI) -> None:
    @app.get("/api/openapi.json", include_in_schema=False)
    def openapi(_caller: Caller) -> dict[str, object]:
        return app.openapi()


def _answer_errors(app: FastAPI) -> None:
    def with_status(code: int, detail: object, headers: dict[str, str] | None = None) -> Problem:
        return Problem(HTTPStatus(code), str(detail), None, headers or {})

    async def ours(request: Request, error: Exception) -> Response:
        return _answer(request, problem_of(error))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = error.detail
        if error.status_code == HTTPStatus.NOT_FOUND and detail == HTTPStatus.NOT_FOUND.phrase:
            detail = f"there is nothing at {request.url.path}; the list of data sets is at /"
        return _answer(request, with_status(error.status_code, detail, dict(error.headers or {})))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in each['loc'] if part != 'body')}: {each['msg']}"
            for each in error.errors()
        )
        return _answer(
            request, with_status(HTTPStatus.UNPROCESSABLE_ENTITY, f"the request is not understood: {wrong}")
        )

    async def unforeseen(request: Request, error: Exception) -> Response:
        _LOG.error("%s %r failed", request.method, request.url.path, exc_info=error)
        response = _answer(request, problem_of(error))
        add_security_headers(MutableHeaders(raw=response.raw_headers))  # this one is made outside of the guards
        return response

    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        ScientistCloudError: ours,
        HTTPException: http,
        RequestValidationError: invalid,
        Exception: unforeseen,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _answer(request: Request, problem: Problem) -> Response:
    if request.url.path.startswith(FOR_PROGRAMS):
        return answer(problem)
    return page_of_problem(request, problem)
