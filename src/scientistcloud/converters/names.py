"""The order of names."""

from __future__ import annotations

import re


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key that takes numbers as numbers: `s2` before `s10`."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part.lower()) for part in re.split(r"(\d+)", name)]
