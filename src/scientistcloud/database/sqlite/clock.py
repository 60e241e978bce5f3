"""The system's two clocks, and which boot the second one counts from."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

# Runs on while the machine sleeps, so a closed lid does not stretch a lease; other systems have no such clock.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SystemClock:
    """Wall time for people; for leases, seconds since the boot, which never jump."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.clock_gettime(_CLOCK)


def boot_id() -> str:
    """Changes with each start of the machine; empty where the system does not tell."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
