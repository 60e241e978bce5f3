"""The figures of the queue as they were a moment ago: a large queue takes a while to count."""

from __future__ import annotations

import threading
import time

from scientistcloud.ports import Store
from scientistcloud.records import QueueStats

_SHARE = 0.1


class RecentStats:
    """Counts again only so often that it takes at most a tenth of the time, however many ask."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._stats: QueueStats | None = None
        self._good_until = 0.0

    def get(self) -> QueueStats:
        """The figures; of a small queue those of this moment. Raises `Unavailable`."""
        with self._lock:
            began = time.monotonic()
            if self._stats is None or began >= self._good_until:
                self._stats = self._store.jobs.stats()
                took = time.monotonic() - began
                self._good_until = began + took / _SHARE
            return self._stats
