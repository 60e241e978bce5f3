"""`/metrics`: what workers counted in their processes, and what the queue is, as the portal says it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from portal_site import Site, running_site
from prometheus_client.parser import text_string_to_metric_families

from scientistcloud.jobs import figures
from scientistcloud.portal.recent import RecentStats
from scientistcloud.records import Person, QueueStats


@pytest.fixture
def site(tmp_path: object) -> Iterator[Site]:
    with running_site(tmp_path) as running:  # type: ignore[arg-type]
        yield running


def figures_of(site: Site) -> dict[str, dict[tuple[str, ...], float]]:
    """Each sample by its name and the values of its labels."""
    with site.program() as client:
        answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_what_waits_and_why_is_told_by_type(site: Site) -> None:
    uuid = site.add_dataset()
    site.add_job(uuid)
    site.add_job(uuid)
    site.store.jobs.pause("dataset_conversion")

    found = figures_of(site)

    assert found["scientistcloud_jobs"][("pending",)] == 2
    pending = found["scientistcloud_jobs_pending"]
    assert pending[("dataset_conversion", "nothing")] == 1
    assert pending[("dataset_conversion", "turn")] == 1
    assert found["scientistcloud_type_paused"] == {("dataset_conversion",): 1}
    assert found["scientistcloud_type_unhandled"] == {("dataset_conversion",): 1}
    assert found["scientistcloud_oldest_claimable_seconds"][("dataset_conversion",)] >= 0
    assert found["scientistcloud_workers"] == {(): 0}


def test_what_workers_of_other_processes_counted_is_summed(site: Site) -> None:
    for _ in range(2):
        site.store.counters.add(figures.one(figures.ATTEMPTS, job_type="dataset_conversion", outcome="completed"))
        site.store.counters.add(figures.observed(figures.ATTEMPT_SECONDS, 3, job_type="dataset_conversion"))

    found = figures_of(site)

    assert found["scientistcloud_attempts_total"] == {("dataset_conversion", "completed"): 2}
    assert found["scientistcloud_attempt_seconds_sum"] == {("dataset_conversion",): 6}
    assert found["scientistcloud_attempt_seconds_bucket"][("dataset_conversion", "5")] == 2


def test_the_figures_are_the_operator_s(site: Site) -> None:
    site.app.state.gate.person = Person(email="ada@example.org")
    with site.program() as client:
        answer = client.get("/metrics")

    assert answer.status_code == 403
    assert "operator" in answer.json()["detail"]


class Slow:
    """A queue that takes a while to count, as a large one does."""

    def __init__(self) -> None:
        self.counted = 0
        self.jobs = self

    def stats(self) -> QueueStats:
        self.counted += 1
        time.sleep(0.05)
        return QueueStats(by_status={"pending": self.counted})


def test_a_large_queue_is_counted_for_all_who_ask_and_not_for_each() -> None:
    slow = Slow()
    recent = RecentStats(slow)  # type: ignore[arg-type]
    began = time.monotonic()
    while time.monotonic() < began + 0.3:
        recent.get()

    assert slow.counted == 1  # it is good for ten times as long as it took


def test_the_figures_of_a_queue_are_counted_again_after_a_while() -> None:
    slow = Slow()
    recent = RecentStats(slow)  # type: ignore[arg-type]
    first = recent.get()
    deadline = time.monotonic() + 60
    while recent.get() == first:
        assert time.monotonic() < deadline, "it is never counted again"
        time.sleep(0.02)
