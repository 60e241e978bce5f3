"""Sleep until there may be work, and know when something changed: threads that watch the server meanwhile.

A process wakes its own sleepers at once. Of other processes' writes it hears by change streams where the server is
a replica set, else by looking some times a second, each process at moments of its own, and between two looks by the
bell of the machine. The threads run only while somebody sleeps or asks for the mark of change.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from pymongo.change_stream import CollectionChangeStream
from pymongo.errors import OperationFailure

from scientistcloud.database.fifo import Fifo
from scientistcloud.database.mongo.collection import Document
from scientistcloud.database.mongo.connection import Connection
from scientistcloud.errors import ScientistCloudError
from scientistcloud.records import JobStatus, WaitsFor

logger = logging.getLogger(__name__)

_SHORTEST_SECONDS, _LONGEST_SECONDS, _GROWTH = 0.03, 0.25, 1.3
_WANTED_SECONDS = 3.0
_LOOKED_AT = 100
# A hundred idle workers that hear of one job must not all ask for it at once: so long for each of them.
_SPREAD_SECONDS = 0.0005
_COUNT_SECONDS = 30.0
_WATCHED = ("jobs", "visstoredatas")


class Waking:
    """The bell and the mark of change of one process. `streams` None: change streams where the server has them."""

    def __init__(self, connection: Connection, *, streams: bool | None = None) -> None:
        self._connection = connection
        self._streams = streams
        self._bell = threading.Condition()
        self._rung = 0
        self._mark = 0
        self._woken = threading.local()
        self._sleepers = 0
        self._asked_at = float("-inf")
        self._threads: dict[str, threading.Thread] = {}
        self._closed = threading.Event()
        self._workers = (0, float("-inf"))
        self._ready: frozenset[str] = frozenset()
        self._newest: object = None
        self._near: Fifo | None = None

    def begin(self) -> None:
        """Know the state from which changes are told. Raises `Unavailable`."""
        if self._streams is None:
            hello = self._connection.hello()
            self._streams = "setName" in hello or hello.get("msg") == "isdbgrid"
        self._ready, self._newest = self._look_for_ready(), self._look_for_newest()

    def share_bell(self, path: Path) -> None:
        """Hear the bell at `path` from now on, and ring it, where the server has no change streams."""
        if not self._streams and self._near is None:
            self._near = Fifo(path)

    def ring(self) -> None:
        """A job may have become claimable, or due earlier."""
        self.rouse()
        if self._near is not None and not self._sleepers:
            self._near.ring()

    def rouse(self) -> None:
        """Wake every sleeper of this process."""
        with self._bell:
            self._rung += 1
            self._bell.notify_all()

    def changed(self) -> None:
        """Something was written."""
        with self._bell:
            self._mark += 1

    def mark(self) -> int:
        """Another number soon after a write by any process; asks nothing of the server."""
        self._connection.check()
        self._asked_at = time.monotonic()
        self._watch()
        return self._mark

    def sleep(self, seconds: float, until_due: float | None) -> bool:
        """Until somebody rang since this thread woke last, or a job is due; whether that was so."""
        due = until_due is not None and until_due <= seconds
        deadline = time.monotonic() + (until_due if due and until_due is not None else seconds)
        with self._bell:
            self._sleepers += 1
            self._watch()
            try:
                while self._rung == getattr(self._woken, "rung", 0):
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return due
                    self._bell.wait(left)
                self._woken.rung = self._rung
                return True
            finally:
                self._sleepers -= 1

    @property
    def watching(self) -> bool:
        """Whether a thread watches the server."""
        return bool(self._threads)

    def close(self) -> None:
        self._closed.set()
        if self._near is not None:
            self._near.rouse()
        for thread in list(self._threads.values()):
            thread.join(10)
        if self._near is not None:
            self._near.close()

    # -- the threads -----------------------------------------------------------------------------

    def _watch(self) -> None:
        with self._bell:
            for name in _WATCHED if self._streams else ("all",):
                if name not in self._threads and not self._closed.is_set():
                    thread = threading.Thread(target=self._run, args=(name,), name=f"watch-{name}", daemon=True)
                    self._threads[name] = thread
                    thread.start()

    def _wanted(self) -> bool:
        return not self._closed.is_set() and (
            self._sleepers > 0 or time.monotonic() - self._asked_at < _WANTED_SECONDS
        )

    def _run(self, name: str) -> None:
        """Watch while somebody cares, and a little longer, for workers sleep again and again."""
        wanted_at = time.monotonic()
        watch: Callable[[], None] = self._look_again_and_again if name == "all" else lambda: self._follow(name)
        while True:
            try:
                watch()
                wanted_at = time.monotonic()
            except ScientistCloudError as failed:  # whoever claims or reads hears of it
                logger.debug("not watched for a moment: %s", failed)
                self._closed.wait(_LONGEST_SECONDS)
            while not self._wanted():
                with self._bell:
                    if self._closed.is_set() or (
                        not self._sleepers and time.monotonic() - wanted_at > _WANTED_SECONDS
                    ):
                        del self._threads[name]
                        return
                self._closed.wait(_SHORTEST_SECONDS)
            if name != "all" and not self._streams:
                with self._bell:
                    del self._threads[name]
                    self._watch()  # by looking
                return

    # -- by looking ------------------------------------------------------------------------------

    def _look_again_and_again(self) -> None:
        """Look while somebody cares, at growing distances while nothing changes."""
        pause = _SHORTEST_SECONDS
        while self._wanted():
            pause = _SHORTEST_SECONDS if self._look() else min(pause * _GROWTH, _LONGEST_SECONDS)
            pause *= random.uniform(0.75, 1.25)  # noqa: S311  # jitter, not a secret
            if self._near is None or not self._sleepers:
                self._closed.wait(pause)
            elif self._near.rung_within(pause):
                self.rouse()
                pause = _SHORTEST_SECONDS

    def _look(self) -> bool:
        changed = False
        if self._sleepers:
            before, self._ready = self._ready, self._look_for_ready()
            if self._ready - before:
                changed = True
                self.rouse()
        if time.monotonic() - self._asked_at < _WANTED_SECONDS:
            newest_before, self._newest = self._newest, self._look_for_newest()
            if self._newest != newest_before:
                changed = True
                self.changed()
        return changed

    def _look_for_ready(self) -> frozenset[str]:
        found = self._connection.jobs.find(
            {"waits_for": WaitsFor.NOTHING.value}, fields=("job_id",), limit=_LOOKED_AT
        )
        return frozenset(each["job_id"] for each in found)

    def _look_for_newest(self) -> object:
        newest: list[object] = [
            collection.find_one({}, fields=("updated_at",), sort=[("updated_at", -1)])
            for collection in (self._connection.jobs, self._connection.visstoredatas)
        ]
        # Progress comes with heartbeats.
        newest.append(
            self._connection.jobs.find_one(
                {"status": JobStatus.RUNNING.value}, fields=("heartbeat_at",), sort=[("heartbeat_at", -1)]
            )
        )
        return newest

    # -- by change streams -----------------------------------------------------------------------

    def _follow(self, name: str) -> None:
        """Listen to the changes of one collection while somebody cares."""
        stream = self._connection.call(lambda: self._open_stream(name))
        if stream is None:
            return
        with closing(stream):
            if name == "jobs":
                self._look()  # what happened while nobody listened
            rung_at = float("-inf")
            while self._wanted():
                change = self._connection.call(stream.try_next)
                if change is None:
                    continue
                self.changed()
                if name == "jobs" and _makes_claimable(change):
                    spread = _SPREAD_SECONDS * self._number_of_workers()
                    if time.monotonic() - rung_at > spread:
                        self._closed.wait(random.random() * spread)  # noqa: S311  # jitter, not a secret
                    rung_at = time.monotonic()
                    self.rouse()
            if name == "jobs":
                self._ready, self._newest = self._look_for_ready(), self._look_for_newest()

    def _open_stream(self, name: str) -> CollectionChangeStream[Document] | None:
        try:
            return self._connection.database[name].watch(max_await_time_ms=int(1000 * _LONGEST_SECONDS))
        except OperationFailure as refused:
            logger.warning("no change streams on %s, so it is polled: %s", self._connection.place, refused)
            self._streams = False
            return None

    def _number_of_workers(self) -> int:
        number, counted_at = self._workers
        if time.monotonic() - counted_at > _COUNT_SECONDS:
            number = self._connection.workers.count({})
            self._workers = (number, time.monotonic())
        return number


def _makes_claimable(change: Mapping[str, Any]) -> bool:
    described = change.get("updateDescription") or {}
    written = described.get("updatedFields") or change.get("fullDocument") or {}
    return written.get("waits_for") in (WaitsFor.NOTHING.value, WaitsFor.TIME.value)
