"""When to look at a registered folder: as the system tells of changes, and now and then in any case.

Network file systems tell of no change that another machine makes, so nothing depends on being told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from scientistcloud.uploads.registering import Event, Registrar

_TICK_SECONDS = 0.2
_SOONEST_SECONDS = 0.5


def looks(
    registrar: Registrar, *, watch: bool, poll_seconds: float, stopped: Callable[[], bool]
) -> Iterator[Event]:
    """What each look finds: until nothing waits to become quiet, or with `watch` until `stopped` says so."""
    if not watch:
        yield from registrar.look(first=True)
        yield from _until_quiet(registrar, stopped)
        return
    from watchfiles import watch as changes

    told = changes(
        registrar.root,
        watch_filter=None,
        debounce=200,
        step=50,
        rust_timeout=int(_TICK_SECONDS * 1000),
        yield_on_timeout=True,
        raise_interrupt=False,
        ignore_permission_denied=True,
    )
    next(told, None)  # it listens from now on, so that nothing is missed after the first look
    yield from registrar.look(first=True)
    looked = looked_at_all = time.monotonic()
    changed: set[Path] = set()
    while not stopped():
        changed |= {Path(path) for _, path in next(told, None) or ()}
        now = time.monotonic()
        if now - looked_at_all >= poll_seconds:
            looked = looked_at_all = now
            changed.clear()
            yield from registrar.look()
        elif (changed or registrar.waiting) and now - looked >= _SOONEST_SECONDS:
            looked = now
            some, changed = changed, set()
            yield from registrar.look_at(some)


def _until_quiet(registrar: Registrar, stopped: Callable[[], bool]) -> Iterator[Event]:
    """Look again while something waits: once more than it takes to become quiet, for what never does."""
    until = time.monotonic() + registrar.quiet_seconds + 2 * _SOONEST_SECONDS
    while registrar.waiting and not stopped() and time.monotonic() < until:
        time.sleep(_TICK_SECONDS)
        yield from registrar.look()
