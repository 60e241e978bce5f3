"""A data folder with its database, real workers on it, and what the tests ask of both."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pymongo
import pytest

from mongo_server import drop, new_database
from scientistcloud import JobQueueManager, open_store
from scientistcloud.assembly import open_forms
from scientistcloud.layout import CONVERTED, DatasetFolder
from scientistcloud.records import ConversionTarget, Dataset, DatasetStatus, Job, JobStatus
from scientistcloud.settings import Settings, read_settings

GENEROUS_SECONDS = 60.0
NEVER_SECONDS = 1000.0
SHORT_LEASE_SECONDS = 1.5
PIECES = 20

WORKER = """
import os, sys
from scientistcloud import BackgroundService, logs, open_store
from scientistcloud.database.sqlite import locking
from scientistcloud.errors import ScientistCloudError
from scientistcloud.service import background
from scientistcloud.settings import read_settings

settings = read_settings()
logs.configure(settings.log_format)
locking.PATIENCE_SECONDS = float(os.environ["LOCK_PATIENCE_SECONDS"])
background.LOOK_SECONDS = float(os.environ["LOOK_SECONDS"])
try:
    BackgroundService(
        open_store(settings.store_url), data_dir=settings.data_dir, worker_id=sys.argv[1], slots=int(sys.argv[2]),
        tasks=sys.argv[3:],
    ).run()
except ScientistCloudError as failed:
    sys.exit(str(failed))
"""


def eventually(what: Callable[[], object], said: str) -> None:
    until = time.monotonic() + GENEROUS_SECONDS
    while not what():
        assert time.monotonic() < until, f"never {said}"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


@dataclass
class WorkerProcess:
    """A service in a process of its own."""

    process: subprocess.Popen[bytes]
    log: Path

    def says(self, what: str) -> bool:
        return what in self.log.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def ends(self) -> int:
        return self.process.wait(GENEROUS_SECONDS)


@dataclass
class Site:
    """`root` is its data folder. A long lease, so that a slow machine loses none: few tests need a short one."""

    root: Path
    lease_seconds: float = 30
    #: Empty: a new database on `server`, or the embedded one where there is none.
    database_url: str = ""
    workers: list[WorkerProcess] = field(default_factory=list)

    server: ClassVar[str] = ""

    def __post_init__(self) -> None:
        self._ours = bool(self.server and not self.database_url)
        if self._ours:
            self.database_url = new_database(self.server)
        self.settings: Settings = read_settings(
            data_dir=self.root, lease_seconds=self.lease_seconds, database_url=self.database_url
        )
        self.store = open_store(self.settings.store_url)
        self.store.share_bell(self.settings.folder.bell)
        self.queue = JobQueueManager(self.store, lease_seconds=self.lease_seconds)

    def worker(
        self,
        name: str = "ada",
        *,
        slots: int = 1,
        tasks: tuple[str, ...] = ("service_tasks:Trial",),
        on: Sequence[str] = (),
        lock_patience_seconds: float = 5.0,
        look_seconds: float = 1.0,
        **settings: object,
    ) -> WorkerProcess:
        """A worker that has come up or failed. Without `tasks` it is the command, with all that is installed.

        `on`: words before the command that make another host of this one. `lock_patience_seconds`: after which an
        embedded database that somebody else writes to does not answer. `look_seconds`: after which an idle worker
        looks around though nothing woke it; not of the command.
        """
        command = ["-c", WORKER, name, str(slots), *tasks]
        if not tasks:
            command = ["-m", "scientistcloud", "worker", "--slots", str(slots), "--worker-id", name]
        log = self.root / f"{name}-{len(self.workers)}.stderr"
        given = {
            "DATA_DIR": self.root,
            "LEASE_SECONDS": self.lease_seconds,
            "DATABASE_URL": self.database_url,
            **settings,
        }
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*on, sys.executable, *command],
                stderr=file,
                env={
                    **os.environ,
                    "PYTHONPATH": str(Path(__file__).parent),
                    "LOCK_PATIENCE_SECONDS": str(lock_patience_seconds),
                    "LOOK_SECONDS": str(look_seconds),
                    **{f"SCIENTISTCLOUD_{key}": str(value) for key, value in given.items()},
                },
            )
        worker = WorkerProcess(process, log)
        self.workers.append(worker)
        eventually(lambda: worker.says("worker started") or process.poll() is not None, "came up")
        return worker

    def dataset(self, **fields: Any) -> str:
        """A closed data set with a source file; its uuid."""
        now = datetime.now(UTC)
        dataset = Dataset(
            **{
                "uuid": str(uuid.uuid4()),
                "user": "ada@example.org",
                "name": "heart",
                "sensor": "auto",
                "status": DatasetStatus.CONVERSION_QUEUED,
                "created_at": now,
                "updated_at": now,
                "closed_at": now,
                "revision": 1,
                **fields,
            }
        )
        self.store.datasets.add(dataset)
        folder = self.folder(dataset.uuid)
        folder.source.mkdir(parents=True)
        (folder.source / "scan.tif").write_text("…")
        return dataset.uuid

    def job(self, dataset_uuid: str, does: str = "convert", **more: Any) -> str:
        """A conversion job; `more` are its parameters, or keywords of `create_job` where that has them."""
        keywords = {
            name: more.pop(name) for name in ("max_attempts", "timeout_seconds", "job_type") if name in more
        }
        return self.queue.create_job(
            dataset_uuid=dataset_uuid,
            parameters={
                "input_path": f"datasets/{dataset_uuid}/source",
                "output_path": f"datasets/{dataset_uuid}/{CONVERTED}",
                "sensor_type": "auto",
                "does": does,
                **more,
            },
            **{"job_type": "dataset_conversion", **keywords},
        )

    def folder(self, dataset_uuid: str) -> DatasetFolder:
        return self.settings.folder.dataset(dataset_uuid)

    def found(self, job_id: str) -> Job:
        job = self.queue.get_job(job_id)
        assert job is not None
        return job

    def target(self, dataset_uuid: str) -> ConversionTarget:
        target = self.store.targets.get(dataset_uuid)
        assert target is not None
        return target

    def ended(self, job_id: str) -> Job:
        """The job, once it has ended and its worker has written that to the data set."""
        eventually(lambda: self.found(job_id).status.ended, f"ended: {self.found(job_id)}")
        return self.found(job_id)

    def hurry(self, job_id: str) -> None:
        """End the pause before the job's retry, as if it had passed."""
        now = datetime.now(UTC)
        if self.database_url:
            with pymongo.MongoClient[dict[str, Any]](self.database_url) as client:
                jobs = client.get_default_database().jobs
                document = jobs.find_one({"job_id": job_id})
                jobs.replace_one({"job_id": job_id, "status": "pending"}, {**(document or {}), "run_at": now})
        else:
            with closing(sqlite3.connect(self.settings.folder.database)) as connection, connection:
                connection.execute(
                    "UPDATE jobs SET run_at = ? WHERE job_id = ? AND status = 'pending'", (now.timestamp(), job_id)
                )

    def settled(self, dataset_uuid: str, status: DatasetStatus) -> ConversionTarget:
        eventually(lambda: self.target(dataset_uuid).status is status, f"{status}: {self.target(dataset_uuid)}")
        return self.target(dataset_uuid)

    def last_word(self, job_id: str) -> None:
        """Its worker has written the last line of the log, which comes after all records."""
        log = self.settings.folder.log(job_id)
        eventually(lambda: "completed after" in log.read_text(), "said that it completed")

    def started(self, dataset_uuid: str, token: int = 1) -> int:
        """The process of the attempt with `token`, once the task `hold` has said it."""
        path = self.folder(dataset_uuid).root / f"started.{token}"
        eventually(path.exists, f"started with token {token}")
        return int(path.read_text())

    def children(self, dataset_uuid: str, *, after: int) -> list[int]:
        """The processes of the attempts with tokens greater than `after` that have said it."""
        said = self.folder(dataset_uuid).root.glob("started.*[0-9]")
        return [int(path.read_text()) for path in said if int(path.suffix[1:]) > after]

    def go(self, dataset_uuid: str) -> None:
        """Let `hold` go on."""
        (self.folder(dataset_uuid).root / "go").touch()

    def form_of(self, dataset_uuid: str) -> str | None:
        """The job that wrote the form in place; None where there is none. Fails where it is not whole."""
        try:
            form = os.open(self.folder(dataset_uuid).converted, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        try:  # by its descriptor: a path could lead into two forms, one after the other
            texts = [_text(name, form) for name in os.listdir(form)]  # noqa: PTH208  pathlib takes no descriptor
        finally:
            os.close(form)
        assert len(texts) == PIECES, f"{len(texts)} of {PIECES} pieces are visible"
        assert len(set(texts)) == 1, "pieces of two attempts are visible"
        return texts[0]

    @contextmanager
    def watched(self, dataset_uuid: str) -> Iterator[set[str | None]]:
        """Meanwhile look at the form in place without a pause; what was seen. Fails where it was not whole."""
        seen: set[str | None] = set()
        failures: list[AssertionError] = []
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(0.001):
                try:
                    seen.add(self.form_of(dataset_uuid))
                except AssertionError as failed:
                    failures.append(failed)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield seen
        finally:
            stop.set()
            thread.join()
        assert not failures, failures[0]

    def everything(self, dataset_uuid: str) -> dict[str, object]:
        """All records and all files of a data set, and when each was last written."""
        root = self.folder(dataset_uuid).root
        files: dict[str, object] = {
            str(path.relative_to(root)): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
            for path in root.rglob("*")
        }
        jobs = self.queue.list_jobs(dataset_uuid=dataset_uuid)
        logs = {job.job_id: self.settings.folder.log(job.job_id).read_bytes() for job in jobs}
        return {"files": files, "jobs": jobs, "logs": logs, "record": self.store.datasets.get(dataset_uuid)}

    def publish_by_hand(self, job: Job) -> None:
        """What a worker does of `job` up to the publication, after which it dies."""
        forms = open_forms(self.root)
        output = forms.begin(job.dataset_uuid, job_id=job.job_id, token=job.token)
        assert output is not None
        (output / CONVERTED).mkdir()
        for piece in range(PIECES):
            (output / CONVERTED / str(piece)).write_text(job.job_id)
        form = {"path": CONVERTED, "token": job.token, "job_id": job.job_id}
        forms.publish(
            job.dataset_uuid,
            job_id=job.job_id,
            token=job.token,
            names=[CONVERTED],
            outcome={"result": {"by": "hand"}, "form": form, "sensor": "TIFF"},
        )

    @contextmanager
    def store_locked(self) -> Iterator[None]:
        """Meanwhile nobody can write to the database."""
        if self.database_url:
            pytest.skip("only an embedded database has a lock; test_mongo_outage stops a server")
        path = self.settings.folder.database
        with path.with_name(path.name + ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def close(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGCONT)
                worker.kill()
        self.store.close()
        if self._ours:
            drop(self.database_url)


def _text(name: str, folder: int) -> str:
    file = os.open(name, os.O_RDONLY, dir_fd=folder)
    try:
        return os.read(file, 100).decode()
    finally:
        os.close(file)


def waits_for_its_retry(job: Job) -> bool:
    return job.status is JobStatus.PENDING and job.attempt > 0
