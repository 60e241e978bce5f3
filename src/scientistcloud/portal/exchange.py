"""Requests whose bodies are taken as they come, and answers that may be given before their end; raw ASGI.

Who asks is found out first, then each header is checked, then the body is read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from http import HTTPStatus
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from scientistcloud.errors import InvalidParameters, ScientistCloudError, TooLarge
from scientistcloud.portal.bodies import body_of
from scientistcloud.portal.problems import Problem, answer, problem_of
from scientistcloud.settings import MIB
from scientistcloud.uploads.processor import UploadProcessor

T = TypeVar("T")

# Two of one of these contradict each other, and whoever stands between may have heeded the other one.
_ONCE = (
    "content-type",
    "upload-length",
    "upload-defer-length",
    "upload-offset",
    "upload-metadata",
    "upload-checksum",
    "upload-concat",
    "x-http-method-override",
)

# After an early answer so much of the body is still taken, so that the sender gets to read the answer.
_LINGER_BYTES, _LINGER_SECONDS = 4 * MIB, 2.0


class Refused(Exception):
    """An answer that is no error of ours."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.response: Response = answer(Problem(status, detail, None, headers or {}))


class Exchange:
    """One request. The app's state has the `UploadProcessor` as `processor`."""

    def __init__(self, scope: Scope, receive: Receive, threads: Executor) -> None:
        self.scope = scope
        self.receive = receive
        self.body = body_of(scope, receive)
        self.threads = threads
        self.headers = Headers(scope=scope)
        self.processor: UploadProcessor = scope["app"].state.processor

    def number(self, name: str) -> int:
        """The header `name`, a number of bytes. Raises `InvalidParameters`."""
        value = self.headers.get(name, "")
        if not (value.isascii() and value.isdecimal()):
            raise InvalidParameters(f"{name.title()} is {value[:60]!r}; send a number of bytes, 0 or more")
        if len(value) > 18:
            raise TooLarge(f"{name.title()} is beyond every limit; send what it really is")
        return int(value)

    def body_bytes(self) -> int | None:
        """How long the body says it is; None where it will be known at its end."""
        if "content-length" in self.headers:
            return self.number("content-length")
        return None if "transfer-encoding" in self.headers else 0

    def require_plain(self) -> None:
        """Raises where a header that says what the body is came twice, and where the body is encoded."""
        for name in _ONCE:
            if len(self.headers.getlist(name)) > 1:
                raise InvalidParameters(f"{name.title()} came twice; send it once")
        encoding = ", ".join(self.headers.getlist("content-encoding"))
        if encoding.strip().lower() not in ("", "identity"):
            raise Refused(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"the body has the Content-Encoding {encoding[:60]!r}, and bytes are kept as they come; "
                "send them without",
                {"Accept-Encoding": "identity"},
            )
        transfer = ", ".join(self.headers.getlist("transfer-encoding"))
        if transfer.strip().lower() not in ("", "chunked"):
            raise Refused(
                HTTPStatus.NOT_IMPLEMENTED,
                f"the body has the Transfer-Encoding {transfer[:60]!r}; only `chunked` is understood here",
            )

    async def in_thread(self, call: Callable[..., T], *arguments: object, **named: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, partial(call, *arguments, **named))


async def answered(respond: Callable[[], Awaitable[Response]]) -> Response:
    """What `respond` gives, or the problem that it raises."""
    try:
        return await respond()
    except Refused as refused:
        return refused.response
    except ScientistCloudError as failed:
        return answer(problem_of(failed))


async def send_answer(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send `response`; where it may come before the end of the body, let the sender read it, and close.

    Closing with unread bytes resets the connection, and the answer is lost on the way.
    """
    headers = Headers(scope=scope)
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if not has_body or response.status_code < HTTPStatus.BAD_REQUEST:
        return await response(scope, receive, send)
    response.headers["Connection"] = "close"
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    body, left, until = body_of(scope, receive), _LINGER_BYTES, time.monotonic() + _LINGER_SECONDS
    while left > 0 and (seconds := until - time.monotonic()) > 0:
        taken = await body.take(seconds)
        left -= taken.size_bytes
        if not taken.more:
            break
    return await send({"type": "http.response.body", "body": b"", "more_body": False})
