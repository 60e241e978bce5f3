"""Errors for people: what happened, and the next thing to do."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from scientistcloud.portal.pages.rendering import page
from scientistcloud.portal.problems import Problem, answer

_HEADINGS = {
    HTTPStatus.UNAUTHORIZED: "Please log in",
    HTTPStatus.FORBIDDEN: "That came from somewhere else",
    HTTPStatus.NOT_FOUND: "There is nothing here",
    HTTPStatus.CONFLICT: "That is not possible now",
    HTTPStatus.SERVICE_UNAVAILABLE: "The portal waits for its database",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The portal failed at this",
}


def page_of_problem(request: Request, problem: Problem) -> Response:
    """`problem` as a page; whoever is not logged in is led to the log-in and back."""
    if request.headers.get("hx-request"):
        answered = answer(problem)
        if problem.status is HTTPStatus.UNAUTHORIZED:
            answered.headers["HX-Redirect"] = "/login"
        return answered
    if problem.status is HTTPStatus.UNAUTHORIZED and request.method in ("GET", "HEAD"):
        return RedirectResponse(f"/login?next={quote(request.url.path)}", HTTPStatus.SEE_OTHER)
    heading = _HEADINGS.get(problem.status, problem.status.phrase)
    response = page("error.html", request, None, status_code=problem.status, heading=heading, detail=problem.detail)
    response.headers.update(problem.headers)
    return response
