"""The server's clock as it is known between two of its answers."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from scientistcloud.database.mongo.clock import ServerClock

NOON = datetime(2026, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC)


def test_it_goes_on_from_what_the_server_said_whatever_this_machine_s_clock_says() -> None:
    clock = ServerClock()

    clock.hear(NOON)
    time.sleep(0.02)

    assert timedelta(milliseconds=19) <= clock.now() - NOON < timedelta(minutes=1)


def test_it_is_as_exact_as_the_database_keeps_times() -> None:
    clock = ServerClock()
    clock.hear(NOON)

    assert clock.now().microsecond % 1000 == 0


def test_a_server_whose_clock_was_set_back_is_believed_and_a_late_answer_is_not() -> None:
    clock = ServerClock()
    clock.hear(NOON)

    clock.hear(NOON - timedelta(seconds=10), forward_only=True)
    assert clock.now() > NOON - timedelta(seconds=1)
    clock.hear(NOON + timedelta(hours=1), forward_only=True)
    assert clock.now() >= NOON + timedelta(minutes=59)
    clock.hear(NOON - timedelta(hours=1))
    assert clock.now() < NOON
