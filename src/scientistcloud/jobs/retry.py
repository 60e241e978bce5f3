"""How long to wait before another attempt: pure."""

from __future__ import annotations

FIRST_PAUSE_SECONDS = 5.0
"""After a failure: what was in the way (a full disk, a network) takes a while to pass."""

LOST_PAUSE_SECONDS = 1.0
"""After a lost worker: nothing was in the way, only the worker went."""

LONGEST_PAUSE_SECONDS = 900.0
_GROWTH = 4.0
_JITTER = 0.25


def pause_seconds(attempt: int, *, chance: float, first_seconds: float = FIRST_PAUSE_SECONDS) -> float:
    """The pause after the attempt of number `attempt` (from 1): growing four times each, at most 15 minutes.

    Parameters
    ----------
    chance
        0 to 1, drawn by the caller: moves the pause by a quarter up or down, so that jobs which failed together do
        not come back together.
    """
    exponent = min(max(attempt, 1) - 1, 10)  # by then the longest pause is reached
    pause = min(first_seconds * _GROWTH**exponent, LONGEST_PAUSE_SECONDS)
    return pause * (1.0 + _JITTER * (2.0 * chance - 1.0))
