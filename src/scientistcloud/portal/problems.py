"""Errors as answers: RFC 9457 problem details for programs; `pages.errors` has the ones for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

from scientistcloud import errors

_STATUSES: tuple[tuple[type[errors.ScientistCloudError], HTTPStatus, Mapping[str, str]], ...] = (
    # The first that fits, so children stand before their parents.
    (errors.NotLoggedIn, HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Bearer"}),
    (errors.Forbidden, HTTPStatus.FORBIDDEN, {}),
    (errors.NotFound, HTTPStatus.NOT_FOUND, {}),
    (errors.IdempotencyConflict, HTTPStatus.CONFLICT, {}),
    (errors.InvalidTransition, HTTPStatus.CONFLICT, {}),
    (errors.TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {}),
    (errors.TooMuch, HTTPStatus.TOO_MANY_REQUESTS, {}),
    (errors.CallersMistake, HTTPStatus.BAD_REQUEST, {}),
    (errors.NoSpace, HTTPStatus.INSUFFICIENT_STORAGE, {}),
    # Never a 4xx for a passing trouble: clients throw their resume data away on it.
    (errors.Stale, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "1"}),
    (errors.Transient, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "5"}),
    (errors.SourceError, HTTPStatus.UNPROCESSABLE_ENTITY, {}),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """What an error is over HTTP."""

    status: HTTPStatus
    #: The error's message: what happened, to what, and what to do.
    detail: str
    #: The class in `scientistcloud.errors`, so that a client can raise it again; None for others.
    error: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
        }
        return body if self.error is None else body | {"error": self.error}


def problem_of(error: Exception) -> Problem:
    """The problem that `error` is; errors that are not ours tell the outside nothing but that they happened."""
    for kind, status, headers in _STATUSES:
        if isinstance(error, kind):
            return Problem(status, str(error), type(error).__name__, headers)
    if isinstance(error, errors.ScientistCloudError):
        return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error), type(error).__name__)
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "the portal failed at this; its log has the reason, try again later"
    )


def answer(problem: Problem) -> JSONResponse:
    """`problem` as a response: ``application/problem+json``."""
    return JSONResponse(
        problem.as_json(),
        status_code=problem.status,
        headers=dict(problem.headers),
        media_type="application/problem+json",
    )
