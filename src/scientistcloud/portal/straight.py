"""The rest of a body whose length is known, straight from the connection into the blocks that are written.

The parser of HTTP hands out a copy of what came, in pieces of 256 KiB at most; for a body that is counted and not
parsed that is needless. While it lasts, the connection has this protocol; then it is HTTP's again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

BLOCKS = 3
"""One is being written, one waits for its turn, one is filled."""


class Sender(Protocol):
    """Who speaks HTTP on the connection."""

    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Straight(asyncio.BufferedProtocol):
    """Receives `left_bytes` and no more.

    Parameters
    ----------
    http
        Learns what else happens on the connection.
    add
        Gets each block once it is full, or at the end. Two blocks later it is filled anew.
    wanted
        False: nobody wants the rest, and it is dropped.
    whole
        Called once all is here.
    """

    def __init__(
        self,
        http: Sender,
        left_bytes: int,
        *,
        block_bytes: int,
        add: Callable[[memoryview], None],
        wanted: Callable[[], bool],
        whole: Callable[[], None],
    ) -> None:
        self._http = http
        self._left = left_bytes
        self._block_bytes = block_bytes
        self._add, self._wanted, self._whole = add, wanted, whole
        self._blocks: list[memoryview] = []
        self._number = -1
        self._start = self._end = block_bytes  # of what was received into the block and not handed on yet

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        if self._end == self._block_bytes:
            self._number = (self._number + 1) % BLOCKS
            if len(self._blocks) == self._number:
                self._blocks.append(memoryview(bytearray(self._block_bytes)))
            self._start = self._end = 0
        return self._blocks[self._number][self._end : self._end + self._left]

    def buffer_updated(self, nbytes: int) -> None:
        self._end += nbytes
        self._left -= nbytes
        if not self._wanted():
            self._start = self._end
        elif self._end == self._block_bytes or self._left == 0:
            self.flush()
        if self._left == 0:
            self._blocks = []  # whoever got them has them; they go as soon as they are written
            self._whole()

    def flush(self) -> None:
        """Hand on what is there of a block."""
        if self._start < self._end:
            start, self._start = self._start, self._end
            self._add(self._blocks[self._number][start : self._end])

    def connection_lost(self, exc: Exception | None) -> None:
        self.flush()
        self._blocks = []
        self._http.connection_lost(exc)

    def pause_writing(self) -> None:
        self._http.pause_writing()

    def resume_writing(self) -> None:
        self._http.resume_writing()
