"""Sleep until there may be work: a FIFO beside the database, with a slow look as the safety net.

Who commits something claimable writes one byte, which wakes one sleeper and not all of them (`EPOLLEXCLUSIVE`): a
hundred idle workers would all look for the one job. A claim that leaves more behind writes the next byte, so many
jobs wake many workers one after the other. A byte that nobody could use (its reader died, or runs other job types)
costs at most one look-round: sleepers also look at `PRAGMA data_version` twice a second, and at the next due time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from scientistcloud.database.fifo import Fifo
from scientistcloud.database.sqlite.connection import Database

_LOOK_ROUND_SECONDS = 0.5


class Waking:
    """The bell beside the database of `database`.

    `seconds_to_next_due` says how long it is until a job's time comes, None where none waits for it.
    """

    def __init__(self, database: Database, seconds_to_next_due: Callable[[], float | None]) -> None:
        self._database = database
        self._seconds_to_next_due = seconds_to_next_due
        self._mine = threading.local()
        self._fifo = Fifo(database.path.with_name(database.path.name + ".wake"))

    def ring(self) -> None:
        """Wake one sleeper, of any process."""
        self._fifo.ring()

    def rouse(self) -> None:
        """Wake every sleeper of this process."""
        self._fifo.rouse()

    def sleep(self, seconds: float) -> bool:
        """Until somebody rang or roused, something was committed since this thread woke last, or a job is due."""
        deadline = time.monotonic() + seconds
        until_due = self._seconds_to_next_due()
        due = None if until_due is None else time.monotonic() + until_due
        while True:
            mark = self._database.change_mark()
            if mark != getattr(self._mine, "mark", None):
                self._mine.mark = mark
                return True
            now = time.monotonic()
            if due is not None and now >= due:
                return True
            if now >= deadline:
                return False
            pause = min(_LOOK_ROUND_SECONDS, deadline - now, *([] if due is None else [due - now]))
            # All bytes are read: one look finds all there is, and a claim that leaves some behind rings again.
            if self._fifo.rung_within(pause):
                return True

    def close(self) -> None:
        self._fifo.close()
