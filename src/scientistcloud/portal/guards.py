"""What stands around every request: headers, host names, sizes, the log. Raw ASGI, so streams stay streams."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from http import HTTPStatus

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scientistcloud.errors import Forbidden, TooLarge
from scientistcloud.logs import facts
from scientistcloud.portal.problems import answer, problem_of

_LOG = logging.getLogger("scientistcloud.portal.access")

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
VIEWER_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
# Neuroglancer's workers compile shaders' and codecs' glue (blosc) at run time; a worker's policy is the one that
# came with its script. Without this there are no pixels, and no error that a person would see.
VIEWER_SCRIPT_POLICY = "default-src 'none'; script-src 'self' 'unsafe-eval'; connect-src 'self'"
#: Files that people uploaded: whatever they hold, no browser runs it.
FILE_POLICY = "sandbox; default-src 'none'"

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def add_security_headers(headers: MutableHeaders) -> None:
    """The headers that every answer carries; a route that set its own policy keeps it."""
    for name, value in _ALWAYS.items():
        headers.setdefault(name, value)
    headers.setdefault("Content-Security-Policy", PAGE_POLICY)
    # What depends on who asks is nobody else's to keep.
    headers.setdefault("Cache-Control", "no-store")


class SecurityHeaders:
    """Adds the security headers to each answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                add_security_headers(MutableHeaders(scope=message))
            await send(message)

        return await self._app(scope, receive, with_headers)


class KnownHosts:
    """Refuses requests for host names that are not ours: a page elsewhere can point its own name at 127.0.0.1."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and (name := _host_name(Headers(scope=scope).get("host", ""))) not in self._hosts
        ):
            refused = Forbidden(f"this portal is not called {name[:80]!r}; open http://127.0.0.1 with its port")
            return await answer(problem_of(refused))(scope, receive, send)
        return await self._app(scope, receive, send)


def _host_name(host: str) -> str:
    """`host` without its port, the brackets of an address kept."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()


class SmallBodies:
    """Ends requests with a body beyond `limit_bytes`, save under the paths that stream theirs."""

    def __init__(self, app: ASGIApp, *, limit_bytes: int, streaming: tuple[str, ...]) -> None:
        self._app = app
        self._limit = limit_bytes
        self._streaming = streaming

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self._streaming):
            return await self._app(scope, receive, send)
        refused = TooLarge(f"the request is larger than {self._limit} bytes; send files to /api/uploads/")
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared) > self._limit:
            return await answer(problem_of(refused))(scope, receive, send)
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._limit:
                # Not `refused`: FastAPI turns every other error while it reads a body into a 400.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(refused))
            return message

        return await self._app(scope, counted, send)


class AccessLog:
    """A line for each request: method, path, status, milliseconds. Never the query, which can hold a token."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began = time.monotonic()
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            return await self._app(scope, receive, noted)
        finally:
            # %r: a path may hold line breaks that would forge lines of the log.
            said = facts(status=status or None, milliseconds=round((time.monotonic() - began) * 1000))
            _LOG.info("%s %r%s", scope["method"], scope["path"], said)
