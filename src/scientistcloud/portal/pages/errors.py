"""Errors for people: what happened, and the next thing to do."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from scientistcloud.errors import ScientistCloudError
from scientistcloud.portal.dependencies import SAFE_METHODS, gate
from scientistcloud.portal.pages.rendering import page
from scientistcloud.portal.problems import Problem, answer

_HEADINGS: Mapping[HTTPStatus, str] = {
    HTTPStatus.UNAUTHORIZED: "Please log in",
    HTTPStatus.FORBIDDEN: "That came from somewhere else",
    HTTPStatus.NOT_FOUND: "There is nothing here",
    HTTPStatus.CONFLICT: "That is not possible now",
    HTTPStatus.SERVICE_UNAVAILABLE: "The portal waits for its database",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The portal failed at this",
}


def page_of_problem(request: Request, problem: Problem) -> Response:
    """`problem` as a page; whoever is not logged in is led to the log-in and back."""
    back = f"?next={quote(request.url.path)}" if request.method in SAFE_METHODS else ""
    to_log_in = f"/login{back}" if _could_log_in(request, problem) else None
    if request.headers.get("hx-request"):
        answered = answer(problem)
        if to_log_in:
            answered.headers["HX-Redirect"] = "/login"
        return answered
    if problem.status is HTTPStatus.UNAUTHORIZED and request.method in ("GET", "HEAD"):
        return RedirectResponse(to_log_in or "/login", HTTPStatus.SEE_OTHER)
    heading = _HEADINGS.get(problem.status, problem.status.phrase)
    response = page(
        "error.html",
        request,
        None,
        status_code=problem.status,
        heading=heading,
        detail=problem.detail,
        to_log_in=to_log_in,
    )
    response.headers.update(problem.headers)
    return response


def _could_log_in(request: Request, problem: Problem) -> bool:
    """Whether a log-in could be what is missing: what is not public does not exist without one."""
    if problem.status is HTTPStatus.NOT_FOUND:
        with suppress(ScientistCloudError):
            return gate(request.scope).reader(request) is None
    return problem.status is HTTPStatus.UNAUTHORIZED
