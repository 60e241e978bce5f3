"""A few processes that decode what browsers cannot: numbers for the viewer, from chunks as they are stored.

The portal itself imports no scientific library; these processes do, when the first picture asks for it. What they
made is kept, up to a limit; browsers keep it as well.

Places are counted by what the processes have still to do, not by who still waits for it: otherwise whoever asks and
goes away would fill them with work that nobody wants. People without a log-in have half of the places, and of what
takes long, sums over regions, one at a time, so that a process is left for the others.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from scientistcloud.errors import Unavailable

KEPT_BYTES = 64 << 20
PROCESSES = 2
_PLACES = 32  # more than that many questions at a time are sent away
_PLACES_OF_READERS = 16
_PATIENCE_SECONDS = 60.0
_BUSY = "too many pictures are being decoded at this moment; try again in a few seconds"


class Decoding:
    """Decodes in processes of its own. Safe to use from several threads; started when first asked."""

    def __init__(self, *, kept_bytes: int = KEPT_BYTES, processes: int = PROCESSES) -> None:
        self._kept = _Kept(kept_bytes)
        self._pool = _Pool(processes)
        self._rooms: tuple[_Room, ...] = (_Room(_PLACES),)
        self._rooms_of_what_takes_long: tuple[_Room, ...] = self._rooms

    def for_readers(self, *, wait_seconds: float = _PATIENCE_SECONDS) -> Decoding:
        """The same, with the smaller share of those who have no log-in; made once, for all of them.

        For what takes long they wait for each other, up to `wait_seconds`.
        """
        readers = Decoding.__new__(Decoding)
        readers._kept, readers._pool = self._kept, self._pool
        readers._rooms = (*self._rooms, _Room(_PLACES_OF_READERS))
        readers._rooms_of_what_takes_long = (*readers._rooms, _Room(1, wait_seconds=wait_seconds))
        return readers

    def chunk(
        self, array: Path, index: Sequence[int], *, token: str, missing: Sequence[float | int], part: str
    ) -> bytes:
        """See `omezarr.viewing.float32_chunk`. Raises `NotFound`, `Unavailable`."""
        key = (array, token, tuple(index), part)
        if (known := self._kept.get(key)) is not None:
            return known
        made: bytes = self._ask(self._rooms, _chunk, array, tuple(index), token, tuple(missing), part)
        self._kept.keep(key, made)
        return made

    def value(self, array: Path, place: Sequence[int], *, token: str, part: str) -> str:
        """See `omezarr.viewing.value_at`. Raises `NotFound`, `Unavailable`."""
        found: str = self._ask(self._rooms, _value, array, tuple(place), token, part)
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
        rooms = self._rooms_of_what_takes_long
        found: bytes = self._ask(rooms, _over_region, array, over, rows, columns, mean, tuple(missing), mask, token)
        return found

    def whole_image(self, array: Path, *, token: str) -> bytes:
        """See `omezarr.regions.whole_image`. Raises `NotFound`, `InvalidParameters`, `Unavailable`."""
        found: bytes = self._ask(self._rooms_of_what_takes_long, _whole_image, array, token)
        return found

    @property
    def size_bytes(self) -> int:
        """What is kept."""
        return self._kept.size_bytes

    def close(self) -> None:
        """End the processes; what they are at is lost."""
        self._pool.close()

    def _ask(self, rooms: Sequence[_Room], work: Callable[..., Any], *arguments: Any) -> Any:
        for _attempt in (1, 2):
            taken = _take(rooms)
            pool = self._pool.running()
            try:
                future = pool.submit(work, *arguments)
            except BrokenProcessPool:
                _give_back(taken)
                self._pool.replace(pool)
                continue
            except BaseException:
                _give_back(taken)
                raise
            future.add_done_callback(_giving_back(taken))
            try:
                return future.result(_PATIENCE_SECONDS)
            except BrokenProcessPool:  # one was killed, perhaps for its memory; others asked at the same time
                self._pool.replace(pool)
            except TimeoutError:
                future.cancel()
                break
        raise Unavailable(_BUSY)


class _Room:
    """Places for questions; who finds none is sent away, at once or after `wait_seconds`."""

    def __init__(self, places: int, *, wait_seconds: float = 0.0) -> None:
        self._places = threading.Semaphore(places)
        self._wait_seconds = wait_seconds

    def take(self) -> None:
        """Raises `Unavailable` where none is free."""
        if not self._places.acquire(timeout=self._wait_seconds):
            raise Unavailable(_BUSY)

    def give_back(self) -> None:
        self._places.release()


def _take(rooms: Sequence[_Room]) -> Sequence[_Room]:
    """A place in each, or in none."""
    taken: list[_Room] = []
    try:
        for room in rooms:
            room.take()
            taken.append(room)
    except Unavailable:
        _give_back(taken)
        raise
    return taken


def _give_back(rooms: Sequence[_Room]) -> None:
    for room in rooms:
        room.give_back()


def _giving_back(rooms: Sequence[_Room]) -> Callable[[Future[Any]], None]:
    return lambda _ended: _give_back(rooms)


class _Kept:
    """What was made lately, up to so many bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._made: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[Any, ...]) -> bytes | None:
        with self._lock:
            if (known := self._made.get(key)) is not None:
                self._made.move_to_end(key)
            return known

    def keep(self, key: tuple[Any, ...], made: bytes) -> None:
        with self._lock:
            if key not in self._made:
                self._size += len(made)
            self._made[key] = made
            while self._size > self._most_bytes:
                _, gone = self._made.popitem(last=False)
                self._size -= len(gone)

    @property
    def size_bytes(self) -> int:
        with self._lock:
            return self._size


class _Pool:
    """The processes; others in their place where one was killed."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def running(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                # Spawned: a fork of a process with threads may stand still for ever.
                self._pool = ProcessPoolExecutor(self._processes, get_context("spawn"), initializer=_settle_in)
            return self._pool

    def replace(self, broken: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is broken:
                self._pool = None
        broken.shutdown(wait=False)

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


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
