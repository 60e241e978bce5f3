"""Workers that are killed and stopped at random: nothing lost, nothing half, nothing done by one that was late."""

from __future__ import annotations

import random
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from service_site import Site, WorkerProcess, eventually

from scientistcloud.datasets.lifecycle import settled
from scientistcloud.records import DatasetStatus, JobStatus

CHAOS_SECONDS = 30.0


@pytest.mark.long
@pytest.mark.parametrize(
    ("database_url", "seed"),
    [("sqlite", 1), ("sqlite", 2), ("mongodb", 1), ("mongodb", 2)],
    indirect=["database_url"],
)
def test_workers_that_die_and_hang_at_random_lose_nothing(tmp_path: Path, database_url: str, seed: int) -> None:
    chance = random.Random(seed)
    embedded = database_url.startswith("sqlite")
    lease = 1.0 if embedded else 2.5  # the stand-in for a server takes its time when all ask at once
    site = Site(tmp_path, lease_seconds=lease, database_url=database_url)
    datasets = [site.dataset() for _ in range(8)]
    jobs = {
        dataset: [site.job(dataset, seconds=chance.uniform(0, 1.5), max_attempts=1000) for _ in range(12)]
        for dataset in datasets
    }
    crew: dict[str, WorkerProcess] = {name: site.worker(name, slots=2) for name in ("ada", "bob", "cyd")}

    with ExitStack() as stack:
        stack.callback(site.close)
        for dataset in datasets:
            stack.enter_context(site.watched(dataset))
        until = time.monotonic() + CHAOS_SECONDS
        while time.monotonic() < until:
            time.sleep(chance.uniform(0.05, 0.8))
            name = chance.choice(sorted(crew))
            worker = crew[name]
            if chance.random() < 0.5:
                worker.kill()
                crew[name] = site.worker(name, slots=2)
            else:
                worker.signal(signal.SIGSTOP)
                time.sleep(chance.uniform(0.1, 2.5 * lease))
                worker.signal(signal.SIGCONT)
            assert worker is not crew[name] or worker.process.poll() is None, worker.log.read_text()

        # Whatever chance did, one hangs in the middle of a job for longer than its lease.
        last = site.job(datasets[0], seconds=2 * lease, max_attempts=1000)
        jobs[datasets[0]].append(last)
        eventually(lambda: site.found(last).status is JobStatus.RUNNING, "was claimed")
        hung = crew[site.found(last).worker_id or ""]
        hung.signal(signal.SIGSTOP)
        eventually(lambda: "lost" in [attempt.outcome for attempt in site.found(last).history], "was taken back")
        hung.signal(signal.SIGCONT)

        for ids in jobs.values():
            for job_id in ids:
                site.ended(job_id)
        for dataset, ids in jobs.items():
            eventually(lambda d=dataset, i=ids: names(site, d) == i[-1], f"named {ids[-1]}, the newest form")  # type: ignore[misc]

    site = Site(tmp_path, lease_seconds=lease, database_url=database_url)
    for dataset, ids in jobs.items():
        found = site.queue.list_jobs(dataset_uuid=dataset)
        assert [job.job_id for job in found] == ids
        assert {job.status for job in found} == {JobStatus.COMPLETED}
        ends = [job.finished_at for job in found if job.finished_at is not None]
        assert ends == sorted(ends)
        assert [job.token for job in found] == sorted({job.token for job in found})
        target = site.target(dataset)
        assert target.status is DatasetStatus.DONE
        assert settled(target, site.store.jobs.line(dataset)) == target
        assert site.form_of(dataset) == ids[-1]
    outcomes = [attempt.outcome for ids in jobs.values() for each in ids for attempt in site.found(each).history]
    assert "lost" in outcomes, "no worker hung for longer than its lease"
    assert "failed" in outcomes, "no worker was killed in the middle of a job"
    site.close()


def names(site: Site, dataset: str) -> object:
    """The job whose form the record names."""
    forms = site.target(dataset).forms
    return forms[-1]["job_id"] if forms else None
