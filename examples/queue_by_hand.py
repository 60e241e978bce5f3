"""The queue alone, without portal and service: create jobs, work on them, lose one, finish all.

python examples/queue_by_hand.py [DATABASE_URL]
"""

from __future__ import annotations

import sys
import tempfile
import threading
import uuid

from scientistcloud import JobQueueManager, open_store
from scientistcloud.errors import LeaseLost


def main(url: str) -> None:
    store = open_store(url)
    queue = JobQueueManager(store, lease_seconds=1)  # short, so that a lost worker is noticed while you watch
    heart, lung = str(uuid.uuid4()), str(uuid.uuid4())

    # Two jobs of one data set run one after the other; another data set's runs beside them.
    queue.create_jobs(
        [
            {"dataset_uuid": heart, "job_type": "count", "parameters": {"until": 3}},
            {"dataset_uuid": heart, "job_type": "count", "parameters": {"until": 5}},
            {"dataset_uuid": lung, "job_type": "count", "parameters": {"until": 7}},
        ]
    )

    # A key makes a repeated call (a double click, a lost answer) the same job.
    key = f"count:{lung}:1"
    first = queue.create_job(dataset_uuid=lung, job_type="count", parameters={"until": 9}, idempotency_key=key)
    again = queue.create_job(dataset_uuid=lung, job_type="count", parameters={"until": 9}, idempotency_key=key)
    print("created twice, the same job:", first == again)

    # A worker that claims a job and is never heard of again …
    lost = queue.get_next_job("a worker that dies")
    assert lost is not None
    print("claimed, and lost:", lost.parameters)

    # … loses it to others, who sleep until there is something to do.
    workers = [threading.Thread(target=work, args=(queue, f"worker {n}")) for n in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    # What the dead worker says when it comes back changes nothing.
    try:
        queue.complete_job(lost, {"counted": -1})
    except LeaseLost as refused:
        print("refused:", refused)

    for job in queue.list_jobs():
        tries = ", ".join(f"{attempt.outcome} by {attempt.worker_id}" for attempt in job.history)
        print(f"{job.status} {job.result}: {tries}")
    print("all in order:", queue.stats().by_status["completed"] == 4)
    store.close()


def work(queue: JobQueueManager, worker_id: str) -> None:
    """Claim and run jobs until all have ended."""
    while queue.stats().by_status["completed"] < 4:
        job = queue.get_next_job(worker_id, wait_seconds=0.5)
        if job is None:
            continue
        counted = 0
        for n in range(job.parameters["until"]):
            counted += 1
            job = queue.heartbeat(job, progress=n / job.parameters["until"])
        queue.complete_job(job, {"counted": counted})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/queue.db")
