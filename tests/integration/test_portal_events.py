"""Server-sent events: the state first, then each change, to those who may see it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from portal_site import SOMEBODY_ELSE, Site, running_site

from scientistcloud.datasets.settling import settle
from scientistcloud.records import DatasetStatus, Progress


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("portal")) as running:
        yield running


class Stream:
    """An open stream, read as it comes."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.iter_lines()

    def next(self) -> tuple[str, Any]:
        """The next event's name and data; pings are passed over."""
        name, data = "", ""
        for line in self._lines:
            if line.startswith("event:"):
                name = line.removeprefix("event:").strip()
            elif line.startswith("data:"):
                data += line.removeprefix("data:").strip()
            elif not line and (name or data):
                return name, json.loads(data) if data.startswith("{") else data
        pytest.fail("the stream ended")


def queued(site: Site, name: str, **fields: Any) -> str:
    uuid = site.add_dataset(name, status=DatasetStatus.CONVERSION_QUEUED, **fields)
    site.add_job(uuid)
    return uuid


def test_a_stream_begins_with_the_state_and_tells_each_change(site: Site) -> None:
    uuid = queued(site, "one")
    with site.program() as client, client.stream("GET", "/api/events") as answer:
        stream = Stream(answer)
        first = stream.next()
        (job,) = site.store.jobs.claim("w", limit=1, job_types=None, lease_seconds=30)
        settle(site.store, uuid)
        changed = stream.next()
        while changed[1]["status"] != "converting":
            changed = stream.next()
        site.store.jobs.complete(job, result=None)
        settle(site.store, uuid)
        gone = stream.next()
        while gone[0] != "gone":
            gone = stream.next()

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    assert first[0] == "job"
    assert (first[1]["dataset_uuid"], first[1]["status"]) == (uuid, "conversion queued")
    assert gone == ("gone", {"dataset_uuid": uuid})


def test_a_stream_tells_nothing_of_what_one_may_not_see(site: Site) -> None:
    foreign = queued(site, "foreign", user=SOMEBODY_ELSE)
    mine = queued(site, "mine")
    with site.program() as client:
        with client.stream("GET", "/api/events") as answer:
            stream = Stream(answer)
            first = stream.next()
            queued(site, "foreign too", user=SOMEBODY_ELSE)
            also_mine = queued(site, "also mine")
            second = stream.next()
        refused = [client.get(path, params={"dataset": foreign}) for path in ("/api/events", "/events")]

    assert first[1]["dataset_uuid"] == mine
    assert second[1]["dataset_uuid"] == also_mine
    assert [each.status_code for each in refused] == [404, 404]


def test_a_job_that_moves_fast_is_told_at_most_four_times_a_second(site: Site) -> None:
    queued(site, "fast")
    (job,) = site.store.jobs.claim("w", limit=1, job_types=None, lease_seconds=30)
    came: list[float] = []
    began = time.monotonic()
    with site.program() as client, client.stream("GET", "/api/events") as answer:
        stream = Stream(answer)
        stream.next()
        done = threading.Event()

        def move() -> None:
            for step in range(60):
                site.store.jobs.heartbeat(job, progress=Progress(fraction=step / 100, step=f"step {step}"))
                time.sleep(0.03)
            done.set()

        mover = threading.Thread(target=move)
        mover.start()
        last = 0.0
        while last < 59:
            name, row = stream.next()
            assert name == "job"
            came.append(time.monotonic())
            last = row["progress_percentage"]
        mover.join()

    assert len(came) >= 3
    assert len(came) <= (came[-1] - began) / 0.25 + 2


def test_the_page_of_a_list_hears_that_it_looks_different_only_when_it_does(site: Site) -> None:
    queued(site, "one")
    (job,) = site.store.jobs.claim("w", limit=1, job_types=None, lease_seconds=30)
    with site.program() as client:
        page = client.get("/").text
        address = "/events?seen=" + page.split('hx-sse:connect="/events?seen=')[1].split('"')[0]
        with client.stream("GET", address) as answer:
            stream = Stream(answer)
            at_first = stream.next()
            site.store.jobs.heartbeat(job, progress=Progress(fraction=0.5, step="level <2> of 3"))
            moved = stream.next()
            site.add_dataset("another")
            different = stream.next()
            while different[0] != "changed":
                different = stream.next()

    assert at_first[0] == ""
    assert "hx-partial" in at_first[1]
    assert "level &lt;2&gt; of 3" in moved[1]
    assert 'value="50.0"' in moved[1]
    assert different[0] == "changed"


def test_a_stream_that_comes_back_after_a_change_hears_of_it_at_once(site: Site) -> None:
    with site.program() as client:
        page = client.get("/").text
        address = "/events?seen=" + page.split('hx-sse:connect="/events?seen=')[1].split('"')[0]
        site.add_dataset("came in between")
        with client.stream("GET", address) as answer:
            assert Stream(answer).next()[0] == "changed"


def test_the_server_ends_with_its_streams_open(tmp_path: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    # `running_site` fails where the server does not end; the client stays connected meanwhile.
    with httpx.Client(timeout=30) as client:
        with running_site(tmp_path_factory.mktemp("portal")) as site:
            site.add_dataset("x", status=DatasetStatus.CONVERTING)
            request = client.build_request("GET", f"{site.url}/api/events", headers=dict(site.program().headers))
            answer = client.send(request, stream=True)
            first = next(answer.iter_lines())
        answer.close()

    assert first
