"""Who may do what with a data set."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from scientistcloud.access.rules import Action, may
from scientistcloud.records import Dataset, DatasetStatus, Person

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ADA, BOB = Person(email="ada@example.org"), Person(email="bob@example.org", operator=True)
ADAS = Dataset(
    uuid="u",
    user="ada@example.org",
    name="n",
    sensor="TIFF",
    status=DatasetStatus.DONE,
    created_at=NOON,
    updated_at=NOON,
)


OF_WHAT_IS_THERE = [action for action in Action if action is not Action.RESTORE]


@pytest.mark.parametrize("action", OF_WHAT_IS_THERE)
def test_an_owner_may_do_everything(action: Action) -> None:
    assert may(ADA, ADAS, action)


@pytest.mark.parametrize("action", Action)
def test_nobody_else_may_do_anything_not_even_an_operator(action: Action) -> None:
    assert not may(BOB, ADAS, action)
    assert not may(None, ADAS, action)


@pytest.mark.parametrize("other", [BOB, None], ids=["another", "without a log-in"])
def test_what_is_public_is_seen_by_all_followed_and_changed_by_its_owner(other: Person | None) -> None:
    public = replace(ADAS, public=True)

    assert [action for action in Action if may(other, public, action)] == [Action.SEE]
    assert may(ADA, public, Action.FOLLOW)
    assert may(ADA, public, Action.CHANGE)


@pytest.mark.parametrize("action", Action)
def test_what_has_no_owner_belongs_to_nobody_without_a_log_in(action: Action) -> None:
    assert not may(None, replace(ADAS, user=""), action)


@pytest.mark.parametrize("action", OF_WHAT_IS_THERE)
def test_what_was_deleted_is_there_for_nobody(action: Action) -> None:
    deleted = replace(ADAS, public=True, deleted_at=NOON)

    assert not may(ADA, deleted, action)
    assert not may(BOB, deleted, action)
    assert not may(None, deleted, action)


def test_what_was_deleted_can_be_had_back_by_its_owner_alone() -> None:
    deleted = replace(ADAS, public=True, deleted_at=NOON)

    assert may(ADA, deleted, Action.RESTORE)
    assert not may(BOB, deleted, Action.RESTORE)
    assert not may(ADA, ADAS, Action.RESTORE)
