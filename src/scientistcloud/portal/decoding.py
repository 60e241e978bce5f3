"""A few processes that decode what browsers cannot: numbers for the viewer, from chunks as they are stored.

The portal itself imports no scientific library; these processes do, when the first picture asks for it. What they
made is kept, up to a limit; browsers keep it as well.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from scientistcloud.errors import Unavailable

KEPT_BYTES = 64 << 20
PROCESSES = 2
_WAITING = 32  # more than that many askers at a time are sent away
_PATIENCE_SECONDS = 60.0
_BUSY = "too many pictures are being decoded at this moment; try again in a few seconds"


class Decoding:
    """Decodes in processes of its own. Safe to use from several threads; started when first asked."""

    def __init__(self, *, kept_bytes: int = KEPT_BYTES, processes: int = PROCESSES) -> None:
        self._kept_bytes, self._processes = kept_bytes, processes
        self._kept: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        self._room = threading.Semaphore(_WAITING)
        self._pool: ProcessPoolExecutor | None = None

    def chunk(
        self, array: Path, index: Sequence[int], *, token: str, missing: Sequence[float | int], part: str
    ) -> bytes:
        """See `omezarr.viewing.float32_chunk`. Raises `NotFound`, `Unavailable`."""
        key = (array, token, tuple(index), part)
        with self._lock:
            if (known := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return known
        made: bytes = self._ask(_chunk, array, tuple(index), token, tuple(missing), part)
        self._keep(key, made)
        return made

    def value(self, array: Path, place: Sequence[int], *, token: str, part: str) -> str:
        """See `omezarr.viewing.value_at`. Raises `NotFound`, `Unavailable`."""
        found: str = self._ask(_value, array, tuple(place), token, part)
        return found

    def over_region(
        self,
        array: Path,
        over: str,
        rows: tuple[int, int],
        columns: tuple[int, int],
        *,
        mean: bool,
        missing: Sequence[float | int],
        mask: Path | None,
        token: str,
    ) -> bytes:
        """See `omezarr.regions.over_region`. Raises `NotFound`, `InvalidParameters`, `Unavailable`."""
        found: bytes = self._ask(_over_region, array, over, rows, columns, mean, tuple(missing), mask, token)
        return found

    def whole_image(self, array: Path, *, token: str) -> bytes:
        """See `omezarr.regions.whole_image`. Raises `NotFound`, `InvalidParameters`, `Unavailable`."""
        found: bytes = self._ask(_whole_image, array, token)
        return found

    @property
    def size_bytes(self) -> int:
        """What is kept."""
        with self._lock:
            return self._size

    def close(self) -> None:
        """End the processes; what they are at is lost."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _keep(self, key: tuple[Any, ...], made: bytes) -> None:
        with self._lock:
            if key not in self._kept:
                self._size += len(made)
            self._kept[key] = made
            while self._size > self._kept_bytes:
                _, gone = self._kept.popitem(last=False)
                self._size -= len(gone)

    def _ask(self, work: Callable[..., Any], *arguments: Any) -> Any:
        if not self._room.acquire(blocking=False):
            raise Unavailable(_BUSY)
        try:
            pool = self._running()
            try:
                return pool.submit(work, *arguments).result(_PATIENCE_SECONDS)
            except BrokenProcessPool:  # one was killed, perhaps for its memory; others asked at the same time
                self._replace(pool)
                return self._running().submit(work, *arguments).result(_PATIENCE_SECONDS)
        except (BrokenProcessPool, TimeoutError):
            raise Unavailable(_BUSY) from None
        finally:
            self._room.release()

    def _running(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                # Spawned: a fork of a process with threads may stand still for ever.
                self._pool = ProcessPoolExecutor(self._processes, get_context("spawn"), initializer=_settle_in)
            return self._pool

    def _replace(self, broken: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is broken:
                self._pool = None
        broken.shutdown(wait=False)


# -- in the processes ----------------------------------------------------------------------------


def _settle_in() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches them too; the portal ends them
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    portal = parent_process()
    if portal is not None:
        connection.wait([portal.sentinel])
    os._exit(0)


def _chunk(array: Path, index: tuple[int, ...], token: str, missing: tuple[float | int, ...], part: str) -> bytes:
    from scientistcloud.omezarr.viewing import float32_chunk

    return float32_chunk(array, index, token=token, missing=missing, part=part)


def _value(array: Path, place: tuple[int, ...], token: str, part: str) -> str:
    from scientistcloud.omezarr.viewing import value_at

    return value_at(array, place, token=token, part=part)


def _over_region(
    array: Path,
    over: str,
    rows: tuple[int, int],
    columns: tuple[int, int],
    mean: bool,
    missing: tuple[float | int, ...],
    mask: Path | None,
    token: str,
) -> bytes:
    from scientistcloud.omezarr.regions import Over, over_region

    return over_region(array, Over(over), rows, columns, mean=mean, missing=missing, mask=mask, token=token)


def _whole_image(array: Path, token: str) -> bytes:
    from scientistcloud.omezarr.regions import whole_image

    return whole_image(array, token=token)
