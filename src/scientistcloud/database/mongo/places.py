"""The order of creation, over all processes, without a number that all of them would have to ask for."""

from __future__ import annotations

import random
import threading

from scientistcloud.ports import Clock


class Places:
    """Numbers for the order of creation: they grow within a process, and with time between processes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0
        self._lock = threading.Lock()

    def next(self) -> int:
        """Milliseconds since 1970 and twenty bits of chance, so that two processes do not draw the same."""
        drawn = int(1000 * self._clock.now().timestamp()) << 20 | random.getrandbits(20)
        with self._lock:
            self._last = max(self._last + 1, drawn)
            return self._last
