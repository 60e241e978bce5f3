"""What workers count, and how Prometheus reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from prometheus_client.parser import text_string_to_metric_families

from scientistcloud.errors import Unavailable
from scientistcloud.jobs import figures, lifecycle
from scientistcloud.portal.exposition import text
from scientistcloud.records import Count, Job, NewJob, QueueStats, TypeStats, Worker
from scientistcloud.service.tally import Tally

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Counters:
    """Keeps what is added; answers only while it is `up`."""

    def __init__(self) -> None:
        self.up = True
        self.counts: list[Count] = []

    def add(self, counts: Sequence[Count]) -> None:
        if not self.up:
            raise Unavailable("the database does not answer")
        self.counts = figures.summed([*self.counts, *counts])

    def all(self) -> list[Count]:
        return self.counts

    def value(self, name: str, **labels: str) -> float:
        wanted = tuple(sorted(labels.items()))
        return sum(count.value for count in self.counts if (count.name, count.labels) == (name, wanted))


def a_claimed_job(*, created: datetime = NOON, claimed: datetime = NOON + SECOND, **fields: object) -> Job:
    new = NewJob(job_id="j", dataset_uuid="d", job_type="dataset_conversion", parameters={})
    job = lifecycle.created(new, seq=1, line_free=True, now=created)
    job = lifecycle.after(job, lifecycle.Claimed("ada", 1, 30), claimed)
    return replace(job, **fields)  # type: ignore[arg-type]


def counted(job: Job, *, waited_since: datetime) -> Counters:
    tally, counters = Tally(), Counters()
    tally.claimed(job, waited_since=waited_since)
    tally.hand_over(counters)
    return counters


def test_a_job_created_while_its_worker_waited_measures_the_wake_up() -> None:
    counters = counted(a_claimed_job(claimed=NOON + SECOND / 500), waited_since=NOON - SECOND)

    assert counters.value("scientistcloud_claims_total", job_type="dataset_conversion") == 1
    assert counters.value("scientistcloud_wake_up_seconds_count") == 1
    assert counters.value("scientistcloud_wake_up_seconds_sum") == 0.002
    assert counters.value("scientistcloud_wake_up_seconds_bucket", le="0.001") == 0
    assert counters.value("scientistcloud_wake_up_seconds_bucket", le="0.0025") == 1


def test_a_job_that_waited_for_a_busy_worker_measures_the_wait_alone() -> None:
    counters = counted(a_claimed_job(claimed=NOON + 3 * SECOND), waited_since=NOON + 2 * SECOND)

    assert counters.value("scientistcloud_wake_up_seconds_count") == 0
    assert counters.value("scientistcloud_wait_seconds_sum", job_type="dataset_conversion") == 3


def test_what_could_not_be_handed_over_is_handed_over_later() -> None:
    tally, counters = Tally(), Counters()
    counters.up = False
    tally.ended(a_claimed_job(), "completed", seconds=2)
    tally.hand_over(counters)
    counters.up = True
    tally.ended(a_claimed_job(), "completed", seconds=0.5)

    tally.hand_over(counters)
    tally.hand_over(counters)

    labels = {"job_type": "dataset_conversion"}
    assert counters.value("scientistcloud_attempts_total", outcome="completed", **labels) == 2
    assert counters.value("scientistcloud_attempt_seconds_sum", **labels) == 2.5
    assert counters.value("scientistcloud_attempt_seconds_bucket", le="1", **labels) == 1
    assert counters.value("scientistcloud_attempt_seconds_bucket", le="+Inf", **labels) == 2


def test_prometheus_reads_every_figure_back() -> None:
    stats = QueueStats(
        by_status={"pending": 2, "running": 1},
        types={
            'odd "type"\n': TypeStats(waiting={"nothing": 2}, oldest_claimable_seconds=7.25, failed={"OSError": 3}),
            "verify_canary": TypeStats(paused=True),
        },
    )
    worker = Worker(
        worker_id="lab-1",
        host="lab",
        slots=4,
        job_types=("dataset_conversion",),
        sensors=(),
        version="1",
        started_at=NOON,
        last_seen=NOON,
    )
    durations = figures.summed(
        [
            count
            for seconds in (0.2, 9.5, 1e6)
            for count in figures.observed(figures.ATTEMPT_SECONDS, seconds, job_type="a")
        ]
    )

    said = text([*figures.gauges(stats, [worker]), (figures.ATTEMPT_SECONDS, durations), (figures.CLAIMS, [])])
    families = {family.name: family for family in text_string_to_metric_families(said)}

    oldest = families["scientistcloud_oldest_claimable_seconds"].samples
    assert [(s.labels["job_type"], s.value) for s in oldest] == [('odd "type"\n', 7.25), ("verify_canary", 0)]
    unhandled = families["scientistcloud_type_unhandled"].samples
    assert [s.value for s in unhandled] == [1, 0]
    assert [s.value for s in families["scientistcloud_type_paused"].samples] == [0, 1]
    assert families["scientistcloud_worker_slots"].samples[0].labels == {"worker_id": "lab-1"}
    assert families["scientistcloud_claims"].type == "counter"
    attempts = families["scientistcloud_attempt_seconds"]
    assert attempts.type == "histogram"
    buckets = [(s.labels["le"], s.value) for s in attempts.samples if s.name.endswith("_bucket")]
    assert buckets == sorted(buckets, key=lambda bucket: float(bucket[0]))
    assert buckets[-1] == ("+Inf", 3)
    assert {s.name: s.value for s in attempts.samples}["scientistcloud_attempt_seconds_sum"] == 1000009.7
