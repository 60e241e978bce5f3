"""Answers of the portal as errors of ours."""

from __future__ import annotations

from http import HTTPStatus

import httpx

from scientistcloud import errors


def unreachable(server: str, failed: httpx.TransportError) -> errors.Unavailable:
    why = str(failed) or type(failed).__name__
    return errors.Unavailable(f"the portal at {server} does not answer ({why}); is it running?")


def checked(answer: httpx.Response) -> httpx.Response:
    """`answer`, if it is none of an error; else raises the error that the portal raised."""
    if answer.is_success:
        return answer
    detail, kind = _problem(answer)
    if kind is not None:
        raise kind(detail)
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise errors.Unavailable(detail)
    raise errors.CallersMistake(detail)


def _problem(answer: httpx.Response) -> tuple[str, type[errors.ScientistCloudError] | None]:
    try:
        problem = answer.json()
        detail = str(problem["detail"])
        kind = getattr(errors, str(problem.get("error")), None)
    except (ValueError, KeyError, TypeError, AttributeError):
        where = f"{answer.request.method} {answer.request.url}"
        return f"{where} was answered by {answer.status_code} {answer.reason_phrase}; is that a portal?", None
    if isinstance(kind, type) and issubclass(kind, errors.ScientistCloudError):
        return detail, kind
    return detail, None
