"""Small programs around one queue, run by `test_queue_processes` in processes of their own."""

from __future__ import annotations

import os
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from scientistcloud import JobQueueManager, open_store
from scientistcloud.database.sqlite.connection import Database
from scientistcloud.errors import LeaseLost


def say(*words: object) -> None:
    # One write a line, so that threads do not mix theirs.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def work(url: str, worker_id: str, lease_seconds: str, seconds_a_job: str, patience_seconds: str = "60") -> None:
    """Claim and complete until nothing has come for so long; says each completed job."""
    queue = JobQueueManager(open_store(url), lease_seconds=float(lease_seconds))
    say("ready")
    while job := queue.get_next_job(worker_id, wait_seconds=float(patience_seconds)):
        say("claimed", job.job_id, job.token)
        time.sleep(float(seconds_a_job))
        try:
            queue.complete_job(job, {"by": worker_id, "token": job.token})
        except LeaseLost:
            say("lost", job.job_id, job.token)
        else:
            say("completed", job.job_id, job.token)


def create(url: str, threads: str) -> None:
    """Create for ever; says each id once it was answered."""
    queue = JobQueueManager(open_store(url))

    def on_and_on() -> None:
        while True:
            say(queue.create_job(dataset_uuid=str(uuid.uuid4()), job_type="dataset_conversion", parameters={}))

    for _ in range(int(threads)):
        threading.Thread(target=on_and_on).start()


def hold(url: str) -> None:
    """Stay inside a transaction of SQLite until a line comes on standard input."""
    with Database(Path(url.removeprefix("sqlite:///"))).write():
        say("holding")
        sys.stdin.readline()
    say("done")


if __name__ == "__main__":
    programs: dict[str, Callable[..., None]] = {"work": work, "create": create, "hold": hold}
    programs[sys.argv[1]](*sys.argv[2:])
