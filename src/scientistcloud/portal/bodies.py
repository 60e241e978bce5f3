"""Bodies of uploads in large pieces, without the copies that a message for each chunk costs.

ASGI hands a body out in messages of 64 KiB, each copied twice and awaited once; at a gigabyte a second that is most
of the work. `UploadProtocol` keeps the chunks of uploads as the parser gave them, and wakes whoever waits when a
block is full; the rest of a long body goes past the parser (`portal.straight`). The request finds both under
`EXTENSION` of its scope. Under another server, `Messages` does the same
with what ASGI gives.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from httptools import HttpRequestParser
from starlette.types import Receive, Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from scientistcloud.portal.straight import Straight
from scientistcloud.settings import MIB

BLOCK_BYTES = 4 * MIB
EXTENSION = "scientistcloud.body"
STREAMING = "/api/uploads"
"""Below this path bodies are taken in blocks."""
# A list of them is one system call; a sender of single bytes must not fill memory with objects.
_MOST_CHUNKS = 1024
# What is left of a body goes past the parser, if it is no less than this.
_STRAIGHT_BYTES = MIB


class Taken(NamedTuple):
    """What has come of a body since the last time."""

    chunks: list[bytes | memoryview]
    size_bytes: int
    #: False: that was its end.
    more: bool
    #: The sender is gone.
    cut: bool


class Body(Protocol):
    """The body of a request."""

    async def take(self, seconds: float) -> Taken:
        """A block, or what has come when the body ended or `seconds` have passed; perhaps nothing."""


def body_of(scope: Scope, receive: Receive) -> Body:
    """The body of the request, in the best way that its server offers."""
    found: Body | None = scope.get("extensions", {}).get(EXTENSION)
    return Messages(receive) if found is None else found


class Messages:
    """The body from ASGI's messages."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    async def take(self, seconds: float) -> Taken:
        chunks: list[bytes | memoryview] = []
        size_bytes, more, cut = 0, True, False
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while more and size_bytes < BLOCK_BYTES and len(chunks) < _MOST_CHUNKS:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        more, cut = False, True
                        break
                    if chunk := message.get("body", b""):
                        chunks.append(chunk)
                        size_bytes += len(chunk)
                    more = message.get("more_body", False)
        return Taken(chunks, size_bytes, more, cut)


class _Chunks:
    """The body from the parser's own chunks, and from the connection behind those."""

    def __init__(self, cycle: RequestResponseCycle, flow: FlowControl) -> None:
        self._cycle, self._flow = cycle, flow
        self._chunks: list[bytes | memoryview] = []
        self._size_bytes = 0
        #: Where the rest comes from, if not from the parser.
        self.straight: Straight | None = None
        self._come = cycle.message_event  # which the protocol sets at the end of the body, and of the connection

    def add(self, chunk: bytes | memoryview) -> None:
        self._chunks.append(chunk)
        self._size_bytes += len(chunk)
        if self._size_bytes >= BLOCK_BYTES or len(self._chunks) >= _MOST_CHUNKS:
            self._come.set()
            self._flow.pause_reading()  # one block waits here, one for its turn, one is being written

    async def take(self, seconds: float) -> Taken:
        cycle = self._cycle
        if cycle.waiting_for_100_continue and not cycle.transport.is_closing():
            cycle.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        if self._size_bytes < BLOCK_BYTES and cycle.more_body and not cycle.disconnected:
            self._come.clear()
            self._flow.resume_reading()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._come.wait()
        if self.straight is not None:
            self.straight.flush()
        chunks, size_bytes = self._chunks, self._size_bytes
        self._chunks, self._size_bytes = [], 0
        self._flow.resume_reading()
        return Taken(chunks, size_bytes, cycle.more_body and not cycle.disconnected, cycle.disconnected)


class UploadProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which keeps the chunks of uploads for whoever takes them."""

    _body: _Chunks | None = None
    _left_bytes = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._body is not None and self._left_bytes >= _STRAIGHT_BYTES and not self.pipeline:
            self._go_straight(self._body)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._body, self._left_bytes = None, 0
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        if scope["type"] == "http" and str(scope.get("path", "")).startswith(STREAMING):
            self._body = _Chunks(self.cycle, self.flow)
            headers = dict(self.headers)
            if b"transfer-encoding" not in headers:
                self._left_bytes = int(headers.get(b"content-length", 0))  # the parser has read it, too
            # The request's own task begins after this.
            scope.setdefault("extensions", {})[EXTENSION] = self._body

    def on_body(self, body: bytes) -> None:
        if self._body is None:
            super().on_body(body)
        else:
            self._left_bytes -= len(body)
            if not self.cycle.response_complete:
                self._body.add(body)

    def _go_straight(self, body: _Chunks) -> None:
        """Receive the rest of the body past the parser."""
        cycle = self.cycle
        if cycle.response_complete or self.transport.is_closing():
            return
        body.straight = Straight(
            self,
            self._left_bytes,
            block_bytes=BLOCK_BYTES,
            add=body.add,
            wanted=lambda: not cycle.response_complete,
            whole=self._come_back,
        )
        self._left_bytes = 0
        self._speak(body.straight)

    def _come_back(self) -> None:
        """The body is whole; what comes next is a request."""
        self._speak(self)
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as it was
        self.on_message_complete()

    def _speak(self, protocol: asyncio.BaseProtocol) -> None:
        """Give the connection to `protocol`; it asks where to read into only when reading begins."""
        if not self.flow.read_paused:
            self.transport.pause_reading()
        self.transport.set_protocol(protocol)
        if not self.flow.read_paused:
            self.transport.resume_reading()
