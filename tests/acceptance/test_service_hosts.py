"""Several hosts against one database server: each a network namespace with a name and a cable of its own.

They share the data folder, as hosts with a network file system do; their way to the database can be cut.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from service_site import Site, WorkerProcess, eventually, is_alive

from mongo_server import MongoServer
from requirements import unavailable
from scientistcloud.records import DatasetStatus, JobStatus

LEASE_SECONDS = 3.0


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Network:
    """A switch with a cable to each host; the tests and the database server sit at the switch itself."""

    def __init__(self) -> None:
        self._tag = f"{os.getpid() % 0xFFFF:04x}"
        self._subnet = f"10.{77 + os.getpid() // 200 % 100}.{os.getpid() % 200}"
        self._switch = f"sc{self._tag}"
        self._hosts: list[str] = []
        self.server = f"{self._subnet}.254"

    def __enter__(self) -> Network:
        ip("link", "add", self._switch, "type", "bridge")
        ip("addr", "add", f"{self.server}/24", "dev", self._switch)
        ip("link", "set", self._switch, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for host in self._hosts:
            subprocess.run(["ip", "netns", "del", self._space(host)], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self._switch], check=False, capture_output=True)

    def host(self, name: str) -> list[str]:
        """Make a host of that name; the words that run a command on it."""
        self._hosts.append(name)
        space, cable = self._space(name), self._cable(name)
        ip("netns", "add", space)
        ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("link", "set", cable, "master", self._switch, "up")
        ip("-n", space, "addr", "add", f"{self._subnet}.{len(self._hosts)}/24", "dev", "eth0")
        ip("-n", space, "link", "set", "eth0", "up")
        ip("-n", space, "link", "set", "lo", "up")
        return ["ip", "netns", "exec", space, "unshare", "--uts", "sh", "-c", f'hostname {name}; exec "$@"', "sh"]

    def cut(self, name: str) -> None:
        ip("link", "set", self._cable(name), "down")

    def mend(self, name: str) -> None:
        ip("link", "set", self._cable(name), "up")

    def _space(self, name: str) -> str:
        return f"sc{self._tag}-{name}"

    def _cable(self, name: str) -> str:
        return f"sc{self._tag}-{self._hosts.index(name)}"


@pytest.fixture
def network() -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.skip("only root makes network namespaces")
    for program in ("ip", "unshare"):
        if shutil.which(program) is None:
            unavailable(f"the program {program}", "apt-get install iproute2 util-linux")
    made = Network()
    try:
        made.__enter__()
        made.host("probe")
    except (subprocess.CalledProcessError, OSError) as refused:
        made.__exit__()
        said = getattr(refused, "stderr", "") or str(refused)
        pytest.skip(f"this system lets nobody make network namespaces: {said.strip()}")
    yield made
    made.__exit__()


@pytest.fixture
def site(network: Network, tmp_path: Path) -> Iterator[Site]:
    for name in ("server", "site"):
        (tmp_path / name).mkdir()
    server = MongoServer(tmp_path / "server", host=network.server)
    server.start()
    try:
        url = f"mongodb://{server.address}/hosts"
        site = Site(tmp_path / "site", lease_seconds=LEASE_SECONDS, database_url=url)
        yield site
        site.close()
    finally:
        server.kill()


def workers_on(site: Site, network: Network, *names: str) -> dict[str, WorkerProcess]:
    """A worker on each host of these names, called as its host is."""
    return {name: site.worker(name, on=network.host(name)) for name in names}


def test_a_host_cut_off_for_longer_than_its_lease_loses_its_job_and_changes_nothing(
    site: Site, network: Network
) -> None:
    workers = workers_on(site, network, "lab-1", "lab-2")
    assert {worker.worker_id: worker.host for worker in site.store.workers.all()} == {n: n for n in workers}
    dataset = site.dataset()
    job_id = site.job(dataset, "hold", max_attempts=20)
    child = site.started(dataset)
    claimed = site.found(job_id)
    first = claimed.worker_id
    assert first is not None
    (second,) = workers.keys() - {first}

    network.cut(first)
    # The other host has it, once the lease is over; a slow machine may need more than one attempt.
    eventually(
        lambda: site.found(job_id).worker_id == second and site.children(dataset, after=claimed.token), "moved"
    )
    eventually(lambda: not is_alive(child), "ended the work whose lease could not be renewed")
    site.go(dataset)
    job = site.ended(job_id)
    site.settled(dataset, DatasetStatus.DONE)
    eventually(lambda: not list(site.folder(dataset).root.glob(".rubbish.*")), "was tidied")
    site.last_word(job_id)
    before = site.everything(dataset)
    network.mend(first)
    eventually(lambda: workers[first].says("lease lost"), "learned that it lost its lease")

    assert (job.status, job.worker_id) == (JobStatus.COMPLETED, second)
    assert job.attempt > claimed.attempt
    assert not any(map(is_alive, site.children(dataset, after=claimed.token)))
    # It works again, without having been started again, and what it did before has no effect.
    workers[second].signal(signal.SIGTERM)
    assert workers[second].ends() == 0
    again = site.ended(site.job(site.dataset()))
    assert (again.status, again.worker_id) == (JobStatus.COMPLETED, first)
    assert site.everything(dataset) == before
    assert site.form_of(dataset) == job_id


@pytest.mark.long
def test_hosts_that_are_cut_off_at_random_lose_and_double_nothing(site: Site, network: Network) -> None:
    names = ["lab-1", "lab-2", "lab-3"]
    workers = workers_on(site, network, *names)
    chance = random.Random(7)
    datasets = [site.dataset() for _ in range(12)]
    jobs = [site.job(dataset, seconds=0.5, max_attempts=50) for _ in range(4) for dataset in datasets]
    until = time.monotonic() + 30
    while time.monotonic() < until:
        name = chance.choice(names)
        network.cut(name)
        time.sleep(chance.uniform(0.2, 2.5 * LEASE_SECONDS))
        network.mend(name)
        time.sleep(chance.uniform(0.1, 1.0))

    ended = [site.ended(job_id) for job_id in jobs]

    assert {job.status for job in ended} == {JobStatus.COMPLETED}
    completions = Counter(
        (job.job_id, attempt.outcome) for job in ended for attempt in job.history if attempt.outcome == "completed"
    )
    assert set(completions.values()) == {1}
    for dataset in datasets:
        site.settled(dataset, DatasetStatus.DONE)
        line = sorted((job for job in ended if job.dataset_uuid == dataset), key=lambda job: job.seq)
        assert site.form_of(dataset) == line[-1].job_id
        accepted = [job.history[-1] for job in line]
        assert all(a.finished_at <= b.started_at for a, b in pairwise(accepted))
    assert any(attempt.outcome == "lost" for job in ended for attempt in job.history)
    assert all(worker.process.poll() is None for worker in workers.values())
