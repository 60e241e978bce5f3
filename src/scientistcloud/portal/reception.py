"""The body of a request into an upload: received while the block before is being written and synced beside both.

Bytes are gathered to blocks of 4 MiB; a block is written in a thread while the next one arrives. A checkpoint (an
fsync, then the offset on record) runs beside reception after 20 MiB or 5 s, and before the answer; where the disk
cannot keep up, reception waits once 40 MiB are not durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from enum import Enum, auto
from typing import Protocol

from scientistcloud.errors import NoSpace, ScientistCloudError, TooMuch, Unavailable
from scientistcloud.portal.bodies import Body
from scientistcloud.settings import MIB
from scientistcloud.uploads.checksum import Checksum
from scientistcloud.uploads.session import Hash

CHECKPOINT_BYTES, CHECKPOINT_SECONDS = 20 * MIB, 5.0
UNSYNCED_BYTES = 40 * MIB
"""With what waits in between, less than 64 MiB have to be sent again after a crash."""
SLOW_SECONDS, SLOW_BYTES = 60.0, 16 * 1024
"""A sender is let go when it sent less than this in so long."""

GROWTH_BYTES = 64 * MIB
"""Room is reserved in steps of this where nobody knows how much will come."""


class End(Enum):
    """How the body of a request ended."""

    WHOLE = auto()
    CUT = auto()
    """The sender is gone."""
    SLOW = auto()
    TOO_LONG = auto()
    """More than the declared length: what came since the last checkpoint is not kept."""
    NOT_AS_PROMISED = auto()
    """Another checksum: nothing of the body is kept."""


class Sink(Protocol):
    """Where the blocks of a body go: a `Writing`, or what takes many files at once. Called in threads."""

    def write(self, blocks: Sequence[bytes | memoryview], also: Hash | None = None) -> None: ...
    def checkpoint(self) -> object: ...
    def flush(self) -> None: ...
    def require_mine(self) -> None: ...


class Reception:
    """One body into one `Sink`, which stays the caller's to close, after `run` has ended.

    Parameters
    ----------
    room_bytes
        More than this is `End.TOO_LONG`; None: no end.
    checksum
        What the body has to give. Nothing of a body is promised before all of it has come and holds.
    grow
        Reserves room for so many more bytes at least, for an upload whose length is not known yet, and says for how
        many; called in a thread.
    """

    def __init__(
        self,
        writing: Sink,
        body: Body,
        threads: Executor,
        *,
        room_bytes: int | None,
        checksum: Checksum | None = None,
        grow: Callable[[int], int] | None = None,
    ) -> None:
        self._writing = writing
        self._body = body
        self._threads = threads
        self._room = room_bytes
        self._checksum = checksum
        self._grow = grow
        self._loop = asyncio.get_running_loop()
        self._gathered: list[bytes | memoryview] = []
        self._gathered_bytes = 0
        self._unsynced_bytes = 0
        self._last_checkpoint = self._loop.time()
        self._block: asyncio.Future[None] | None = None
        self._checkpoint: asyncio.Future[object] | None = None

    async def run(self) -> End:
        """Receive the whole body. What was received is durable when this returns, save for `End.TOO_LONG`.

        Raises `Stale` when a newer request took the upload, `NotFound` when it ended, `NoSpace`, `Unavailable`.
        """
        try:
            end = await self._receive_all()
            if end is End.TOO_LONG or (self._checksum is not None and end is not End.WHOLE):
                return end
            await self._hand_over()
            await self._settled()
            if self._checksum is not None and not self._checksum.holds:
                return End.NOT_AS_PROMISED
            await self._in_thread(self._writing.checkpoint)
            return end
        except (NoSpace, TooMuch):
            await self._finished()
            if self._checksum is None:
                await self._in_thread(self._writing.checkpoint)  # what did fit
            raise
        except asyncio.CancelledError:
            # The portal stops, and may not let anything be awaited any more.
            if self._checksum is None:
                with suppress(ScientistCloudError):
                    self._writing.checkpoint()
            raise
        finally:
            await self._finished()

    async def _receive_all(self) -> End:
        came_bytes, slow_at = 0, self._loop.time() + SLOW_SECONDS
        while True:
            taken = await self._body.take(CHECKPOINT_SECONDS)
            if taken.size_bytes and self._room is not None and not await self._has_room(taken.size_bytes):
                return End.TOO_LONG
            self._gathered, self._gathered_bytes = taken.chunks, taken.size_bytes
            if not taken.more:
                return End.CUT if taken.cut else End.WHOLE
            await self._hand_over()
            came_bytes += taken.size_bytes
            now = self._loop.time()
            if came_bytes >= SLOW_BYTES:
                came_bytes, slow_at = 0, now + SLOW_SECONDS
            elif now > slow_at:
                return End.SLOW
            if not taken.size_bytes:
                await self._in_thread(self._writing.require_mine)

    async def _has_room(self, size_bytes: int) -> bool:
        """Take so much of the room that there is, or that can be had."""
        assert self._room is not None
        self._room -= size_bytes
        if self._room < 0 and self._grow is not None:
            self._room += await self._loop.run_in_executor(self._threads, self._grow, -self._room)
        return self._room >= 0

    async def _hand_over(self) -> None:
        """Give what was gathered to the writing thread, once the block before is written; perhaps a checkpoint."""
        if self._block is not None:
            await self._block
            self._block = None
            await self._checkpoint_if_due()
        if self._gathered:
            self._unsynced_bytes += self._gathered_bytes
            self._block = self._loop.run_in_executor(
                self._threads,
                self._writing.write,
                self._gathered,
                None if self._checksum is None else self._checksum.computed,
            )
            self._gathered, self._gathered_bytes = [], 0

    async def _checkpoint_if_due(self) -> None:
        if self._checkpoint is not None and (self._checkpoint.done() or self._unsynced_bytes > UNSYNCED_BYTES):
            await self._checkpoint
            self._checkpoint = None
        due = (
            self._unsynced_bytes >= CHECKPOINT_BYTES
            or self._loop.time() - self._last_checkpoint > CHECKPOINT_SECONDS
        )
        if due and self._checkpoint is None:
            self._last_checkpoint = self._loop.time()
            self._unsynced_bytes = 0
            self._checkpoint = self._loop.run_in_executor(
                self._threads, self._writing.checkpoint if self._checksum is None else self._writing.flush
            )

    async def _settled(self) -> None:
        """Wait for both threads; raises what they raised."""
        for future in (self._block, self._checkpoint):
            if future is not None:
                await future
        self._block = self._checkpoint = None

    async def _finished(self) -> None:
        """Wait for both threads, whatever became of them."""
        waiting = [future for future in (self._block, self._checkpoint) if future is not None]
        if waiting:
            await asyncio.wait(waiting)
            for future in waiting:
                future.exception()  # it was, or will be, raised where it matters
        self._block = self._checkpoint = None

    async def _in_thread(self, call: object) -> None:
        assert callable(call)
        await self._loop.run_in_executor(self._threads, call)


async def whole_body(body: Body, size_bytes: int) -> bytes:
    """All of a small body. Raises `Unavailable` where it breaks off or is too slow."""
    chunks: list[bytes | memoryview] = []
    until = asyncio.get_running_loop().time() + SLOW_SECONDS
    more = size_bytes > 0
    while more and (seconds := until - asyncio.get_running_loop().time()) > 0:
        taken = await body.take(seconds)
        chunks += taken.chunks
        more = taken.more
    content = b"".join(chunks)
    if len(content) != size_bytes:
        raise Unavailable(f"{len(content)} of {size_bytes} bytes came within a minute; send the file again")
    return content
