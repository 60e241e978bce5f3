"""The queue on a disk that is really full: a small one in memory, mounted for one process alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ON_A_SMALL_DISK = """
import json, sqlite3, sys, uuid
from pathlib import Path
from scientistcloud import JobQueueManager, open_store
from scientistcloud.errors import NoSpace

disk = Path(sys.argv[1])
(disk / "in the way").write_bytes(bytes(6 << 20))
store = open_store(f"sqlite:///{disk}/scientistcloud.db")
queue = JobQueueManager(store)
told, said = [], []

def refused(call):
    try:
        call()
    except NoSpace as full:
        said.append(str(full))
        return True
    return False

def create():
    new = str(uuid.uuid4())
    note = {"note": "x" * 20_000}
    told.append(queue.create_job(dataset_uuid=new, job_type="dataset_conversion", parameters=note))

first = None
while not refused(create):
    first = first or queue.get_next_job("worker")
readable = len(queue.list_jobs(limit=1000))
# What needs little room may still find some; it is either done or refused, and never empty.
while not refused(lambda: queue.heartbeat(first, message="y" * 2000)):
    pass
completed_when_full = not refused(lambda: queue.complete_job(first))
claimed_when_full = []
refused(lambda: claimed_when_full.append(queue.get_next_job("worker")))

(disk / "in the way").unlink()
done = [first.job_id]
if not completed_when_full:
    queue.complete_job(first)
job = claimed_when_full[0] if claimed_when_full else queue.get_next_job("worker")
while job is not None:
    done.append(job.job_id)
    job = queue.complete_job(job, claim_next=True)
jobs = queue.list_jobs(limit=1000)
store.close()
with sqlite3.connect(disk / "scientistcloud.db") as connection:
    intact = connection.execute("PRAGMA integrity_check").fetchall()
print(json.dumps({
    "told": told, "done": done, "readable": readable, "said": said, "intact": intact,
    "claimed when full": [job and job.job_id for job in claimed_when_full],
    "jobs": {job.job_id: job.status for job in jobs},
}))
"""


def test_a_full_disk_loses_no_job_and_the_queue_goes_on_once_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    outer = ["unshare", "--mount", "--map-root-user"] if os.geteuid() else ["unshare", "--mount"]
    probe = subprocess.run(
        [*outer, "sh", "-c", f"mount -t tmpfs none {disk}"], capture_output=True, text=True, check=False
    )
    if probe.returncode:
        pytest.skip(f"this machine mounts no small disk for a test: {probe.stderr.strip()}")

    mounted = f"mount -t tmpfs -o size=12m none {disk} && exec {sys.executable} - {disk}"
    done = subprocess.run(
        [*outer, "sh", "-c", mounted],
        input=ON_A_SMALL_DISK,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all("no room" in said for said in found["said"])
    assert found["readable"] == len(found["told"]) > 20
    assert None not in found["claimed when full"], "a full disk looked like an empty queue"
    assert sorted(found["done"]) == sorted(found["told"])
    assert found["jobs"] == dict.fromkeys(found["told"], "completed")
    assert found["intact"] == [["ok"]]
