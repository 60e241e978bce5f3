"""What every database does beside jobs and data sets: workers, log-ins, roles, marks of change."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from scientistcloud.ports import Store
from scientistcloud.records import Count, Credential, NewJob, Session, Worker

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ADA = Worker(
    worker_id="ada",
    host="lab",
    slots=4,
    job_types=("dataset_conversion",),
    sensors=("TIFF", "NETCDF"),
    version="0.1.0",
    started_at=NOON,
    last_seen=NOON,
)


def a_session(store: Store, *, name: str = "s", seconds: float = 60) -> Session:
    """A log-in that lasts so long from now on."""
    now = store.clock.now()
    return Session(
        id_sha256=name,
        email="ada@example.org",
        csrf_token="c",  # noqa: S106  # of nobody
        created_at=now,
        expires_at=now + timedelta(seconds=seconds),
    )


def a_credential(store: Store, reference: str, *, seconds: float = 60) -> Credential:
    """A sealed credential of Ada's that lasts so long from now on."""
    now = store.clock.now()
    return Credential(
        reference=reference,
        user="ada@example.org",
        sealed=f"sealed {reference}",
        created_at=now,
        expires_at=now + timedelta(seconds=seconds),
    )


class SiteStoreContract:
    """Inherit it and give the fixture `store`."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        raise NotImplementedError

    def test_a_worker_announces_itself_again_and_again(self, store: Store) -> None:
        later = replace(ADA, last_seen=NOON + timedelta(seconds=10))
        bob = replace(ADA, worker_id="bob")

        for worker in (ADA, bob, later):
            store.workers.announce(worker)

        assert store.workers.all() == [later, bob]

    def test_a_worker_that_left_is_not_listed(self, store: Store) -> None:
        store.workers.announce(ADA)

        store.workers.leave("ada")
        store.workers.leave("ada")

        assert store.workers.all() == []

    def test_a_session_lasts_until_it_expires(self, store: Store) -> None:
        lasting, over = a_session(store), a_session(store, name="over", seconds=-1)
        store.sessions.add(lasting)
        store.sessions.add(over)

        assert store.sessions.get("s") == lasting
        assert store.sessions.get("over") is None
        assert store.sessions.get("another") is None

    def test_a_removed_session_is_gone(self, store: Store) -> None:
        store.sessions.add(a_session(store))

        store.sessions.remove("s")
        store.sessions.remove("s")

        assert store.sessions.get("s") is None

    def test_a_credential_is_had_by_its_reference_until_it_expires(self, store: Store) -> None:
        store.credentials.add(a_credential(store, "one"))
        store.credentials.add(a_credential(store, "over", seconds=-1))

        assert store.credentials.sealed("one") == "sealed one"
        assert store.credentials.sealed("over") is None
        assert store.credentials.sealed("another") is None

    def test_a_removed_credential_is_gone(self, store: Store) -> None:
        store.credentials.add(a_credential(store, "one"))
        store.credentials.add(a_credential(store, "two"))

        store.credentials.remove("one")
        store.credentials.remove("one")

        assert store.credentials.sealed("one") is None
        assert store.credentials.sealed("two") == "sealed two"

    def test_the_installation_keeps_its_id(self, store: Store) -> None:
        assert store.meta.installation_id() == store.meta.installation_id()
        assert len(uuid.UUID(store.meta.installation_id()).bytes) == 16

    def test_a_sound_database_says_what_it_is_and_has_no_problems(self, store: Store) -> None:
        state = store.meta.state()

        assert state.summary
        assert "\n" not in state.summary
        assert state.problems == ()

    def test_a_role_has_one_holder_at_a_time(self, store: Store) -> None:
        assert store.meta.hold("care", "ada", seconds=60)
        assert not store.meta.hold("care", "bob", seconds=60)
        assert store.meta.hold("care", "ada", seconds=60)
        assert store.meta.hold("another", "bob", seconds=60)

    def test_a_role_is_free_once_it_was_given_back_or_ran_out(self, store: Store) -> None:
        store.meta.hold("care", "ada", seconds=60)
        store.meta.release("care", "bob")
        assert not store.meta.hold("care", "bob", seconds=60)

        store.meta.release("care", "ada")

        assert store.meta.hold("care", "bob", seconds=0)
        assert store.meta.hold("care", "eve", seconds=60)

    def test_figures_grow_by_what_is_added(self, store: Store) -> None:
        done = (("job_type", "dataset_conversion"), ("outcome", 'a "label"=1'))
        store.counters.add(
            [Count(name="attempts_total", labels=done, value=2), Count(name="claims_total", value=1)]
        )
        store.counters.add([Count(name="attempts_total", labels=done, value=0.5)])
        store.counters.add([])

        assert store.counters.all() == [
            Count(name="attempts_total", labels=done, value=2.5),
            Count(name="claims_total", value=1),
        ]

    def test_figures_added_side_by_side_are_all_counted(self, store: Store) -> None:
        one = [Count(name="attempts_total", value=1), Count(name="claims_total", value=1)]

        def add() -> None:
            for _ in range(25):
                store.counters.add(one)

        threads = [threading.Thread(target=add) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        assert [count.value for count in store.counters.all()] == [100, 100]

    def test_the_mark_changes_with_each_commit_and_only_then(self, store: Store) -> None:
        before = store.change_mark()
        assert store.change_mark() == before
        assert store.jobs.get("nobody") is None
        assert store.change_mark() == before

        store.jobs.create(
            [NewJob(job_id="one", dataset_uuid=str(uuid.uuid4()), job_type="dataset_conversion", parameters={})]
        )

        assert store.change_mark() != before

    def test_a_trace_shows_what_was_sent_while_it_was_open(self, store: Store) -> None:
        with store.trace() as seen:
            store.jobs.get("the one I look for")
        store.jobs.get("another")

        assert any("the one I look for" in statement for statement in seen)
        assert not any("another" in statement for statement in seen)
