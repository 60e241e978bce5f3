"""What a test needs of the machine and does not find there."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def unavailable(what: str, how: str) -> NoReturn:
    """Skip on a person's machine; fail where nothing may be missing (CI)."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and in CI it must be there: {how}", pytrace=False)
    pytest.skip(f"{what} is missing: {how}")
