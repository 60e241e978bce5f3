"""The pause before another attempt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scientistcloud.jobs.retry import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, pause_seconds


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 5), (2, 20), (3, 80), (4, 320), (5, 900), (1000, 900)])
def test_pauses_grow_up_to_a_quarter_of_an_hour(attempt: int, seconds: float) -> None:
    assert pause_seconds(attempt, chance=0.5) == seconds


@given(attempt=st.integers(1, 10_000), chance=st.floats(0, 1))
def test_chance_moves_a_pause_by_a_quarter_at_most(attempt: int, chance: float) -> None:
    middle = pause_seconds(attempt, chance=0.5)

    assert 0.75 * middle <= pause_seconds(attempt, chance=chance) <= 1.25 * middle
    assert FIRST_PAUSE_SECONDS <= middle <= LONGEST_PAUSE_SECONDS


def test_jobs_that_failed_together_do_not_come_back_together() -> None:
    assert pause_seconds(1, chance=0.1) != pause_seconds(1, chance=0.9)
