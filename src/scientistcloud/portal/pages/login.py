"""The log-in: the printed address, or the token typed into a page; and the way out."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Form, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from scientistcloud.access import tokens
from scientistcloud.errors import Forbidden
from scientistcloud.portal.dependencies import SAFE_METHODS, TheAsker, TheStore, gate
from scientistcloud.portal.pages.rendering import page

router = APIRouter(include_in_schema=False)


@router.get("/login")
def show(request: Request, next: Annotated[str, Query()] = "/", wrong: bool = False) -> Response:  # noqa: A002  # the name in the address
    """The page to paste the token into."""
    return page("login.html", request, None, next=here(next), wrong=wrong)


@router.post("/login")
def log_in(
    request: Request,
    token: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",  # noqa: A002  # the name of the field
) -> Response:
    """Trade the token for a session."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("another site sent this log-in; open the portal's own page")
    if not tokens.same(token.strip(), gate(request.scope).token):
        return page("login.html", request, None, status_code=HTTPStatus.UNAUTHORIZED, next=here(next), wrong=True)
    return _welcome(request.scope, here(next))


@router.post("/logout")
def log_out(request: Request, _asker: TheAsker, store: TheStore) -> Response:
    """End the session, here and on the server."""
    name = gate(request.scope).cookie_name
    if cookie := request.cookies.get(name):
        tokens.close_session(store, cookie)
    response = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
    response.delete_cookie(name, path="/", secure=gate(request.scope).secure, httponly=True, samesite="lax")
    return response


class LogInByAddress:
    """``GET /any/page?token=…`` once: a cookie, and a redirect to the bare address, which no history then shows."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in SAFE_METHODS or b"token=" not in scope["query_string"]:
            return await self._app(scope, receive, send)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == "token"]
        if not given or scope["path"].startswith("/api/"):
            return await self._app(scope, receive, send)
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        bare = here(scope["path"]) + (f"?{rest}" if rest else "")
        if tokens.same(given[0], gate(scope).token):
            response = await run_in_threadpool(_welcome, scope, bare)
        else:
            response = RedirectResponse(f"/login?{urlencode({'next': bare, 'wrong': 1})}", HTTPStatus.SEE_OTHER)
        return await response(scope, receive, send)


def _welcome(scope: Scope, to: str) -> Response:
    store, entrance = scope["app"].state.store, gate(scope)
    cookie, _session = tokens.open_session(store, entrance.person)
    response = RedirectResponse(to, HTTPStatus.SEE_OTHER)
    response.set_cookie(
        entrance.cookie_name,
        cookie,
        max_age=int(tokens.SESSION_LIFE.total_seconds()),
        path="/",
        secure=entrance.secure,
        httponly=True,
        samesite="lax",
    )
    return response


def here(address: str) -> str:
    """`address`, if it is a path of this portal; never one that leads to another site (`//`, `/\\`)."""
    if not address.startswith("/") or address[1:2] in ("/", "\\") or any(ord(c) < 32 for c in address):
        return "/"
    return address
