"""The server's clock, as far as it can be known here without asking: all machines then agree what time it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

# Runs on while the machine sleeps; other systems have no such clock.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class ServerClock:
    """The server's wall time, carried on by this machine's monotonic clock since the server told it last."""

    def __init__(self) -> None:
        self.hear(datetime.now(UTC))

    def hear(self, server_time: datetime, *, forward_only: bool = False) -> None:
        """The server says that it is `server_time` now; `forward_only`: or later."""
        if forward_only and server_time < self.now():
            return
        self._heard = (server_time.replace(microsecond=server_time.microsecond // 1000 * 1000), self.monotonic())

    def now(self) -> datetime:
        """To the millisecond, as BSON keeps it: what was read again is what was written."""
        told, at = self._heard
        return told + timedelta(milliseconds=int(1000 * (self.monotonic() - at)))

    def monotonic(self) -> float:
        return time.clock_gettime(_CLOCK)
