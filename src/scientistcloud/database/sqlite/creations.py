"""Creations that arrive together in one process share one commit: its way to the disk is what costs.

The first to arrive leads: it waits for the writers' lock, then takes everybody who has come by then along. Who
comes later waits, and the first of those leads next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scientistcloud.errors import Unavailable
from scientistcloud.records import NewJob


@dataclass(eq=False, slots=True)
class Order:
    """What one thread wants created; afterwards either `job_ids` or `error` is there."""

    jobs: Sequence[NewJob]
    max_pending: int | None
    job_ids: list[str] | None = None
    error: Exception | None = None
    #: Free once the order is done, or its thread is to lead.
    signal: threading.Lock = field(default_factory=threading.Lock)

    @property
    def done(self) -> bool:
        return self.job_ids is not None or self.error is not None


class Creations:
    """`commit(gather)` begins a transaction, calls `gather()` for the orders, and answers each of them."""

    def __init__(self, commit: Callable[[Callable[[], list[Order]]], None]) -> None:
        self._commit = commit
        self._mutex = threading.Lock()
        self._waiting: list[Order] = []
        self._led = False

    def create(self, jobs: Sequence[NewJob], *, max_pending: int | None) -> list[str]:
        """The ids of `jobs`, durable. Raises what stood in the way of these alone, or `Unavailable`."""
        order = Order(jobs, max_pending)
        with self._mutex:
            self._waiting.append(order)
            leads, self._led = not self._led, True
            if not leads:
                order.signal.acquire()
        if not leads:
            order.signal.acquire()
        if not order.done:
            self._lead()
        if order.error is not None:
            raise order.error
        assert order.job_ids is not None
        return order.job_ids

    def _lead(self) -> None:
        taken: list[Order] = []

        def gather() -> list[Order]:
            with self._mutex:
                taken.extend(self._waiting)
                self._waiting.clear()
            return taken

        failure: BaseException | None = None
        try:
            self._commit(gather)
        except BaseException as error:  # noqa: BLE001  # it is raised again below, once nobody waits for it
            failure = error
        if failure is not None:
            reason = failure if isinstance(failure, Exception) else Unavailable("interrupted; create the job again")
            for order in taken or gather():
                order.job_ids, order.error = None, reason
        with self._mutex:
            self._led = bool(self._waiting)
            following = self._waiting[:1]
        for order in (*taken, *following):
            if order.signal.locked():
                order.signal.release()
        if failure is not None and not isinstance(failure, Exception):
            raise failure
