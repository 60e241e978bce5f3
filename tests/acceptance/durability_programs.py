"""What a test lets run under `strace`: one thing each, then a word on standard output that it is done."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scientistcloud import JobQueueManager, open_store
from scientistcloud.assembly import open_forms
from scientistcloud.database.sqlite import locking
from scientistcloud.records import Job

UUID = "11111111-1111-4111-8111-111111111111"


def say(word: str) -> None:
    os.write(1, f"{word}\n".encode())


def queue_on(data_dir: Path) -> JobQueueManager:
    return JobQueueManager(open_store(f"sqlite:///{data_dir / 'scientistcloud.db'}"))


def claimed(queue: JobQueueManager) -> Job:
    queue.create_job(dataset_uuid=UUID, job_type="dataset_conversion", parameters={})
    job = queue.get_next_job("ada")
    assert job is not None
    return job


def create_job(data_dir: Path) -> None:
    queue = queue_on(data_dir)
    say("BEGIN")
    queue.create_job(dataset_uuid=UUID, job_type="dataset_conversion", parameters={})
    say("DONE")


def complete_job(data_dir: Path) -> None:
    queue = queue_on(data_dir)
    job = claimed(queue)
    say("BEGIN")
    queue.complete_job(job, {"answer": 42})
    say("DONE")


def publish(data_dir: Path) -> None:
    forms = open_forms(data_dir)
    say("BEGIN")
    output = forms.begin(UUID, job_id="j", token=1)
    assert output is not None
    (output / "converted.ome.zarr" / "0").mkdir(parents=True)
    (output / "converted.ome.zarr" / "zarr.json").write_bytes(b"{}")
    (output / "converted.ome.zarr" / "0" / "chunk").write_bytes(b"chunk")
    (output / "preview.webp").write_bytes(b"picture")
    forms.publish(UUID, job_id="j", token=1, names=["converted.ome.zarr", "preview.webp"], outcome={"result": {}})
    say("DONE")


def create_two_at_a_time(data_dir: Path) -> None:
    locking.PATIENCE_SECONDS = 2.0  # a tenth of what each sync of the database file takes here
    queues = [queue_on(data_dir) for _ in range(2)]

    def create(queue: JobQueueManager) -> None:
        for _ in range(500):
            queue.create_job(dataset_uuid=UUID, job_type="dataset_conversion", parameters={})

    with ThreadPoolExecutor() as threads:
        for ended in [threads.submit(create, queue) for queue in queues]:
            ended.result()
    say("DONE")
    os._exit(0)  # closing would wait for that disk


PROGRAMS: dict[str, Callable[[Path], None]] = {
    each.__name__: each for each in (create_job, complete_job, publish, create_two_at_a_time)
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](Path(sys.argv[2]))
