"""One SQLite file as a `ports.Store`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from scientistcloud.database.sqlite.clock import SystemClock, boot_id
from scientistcloud.database.sqlite.connection import Database
from scientistcloud.database.sqlite.counters import SqliteCounters
from scientistcloud.database.sqlite.credentials import SqliteCredentials
from scientistcloud.database.sqlite.datasets import SqliteDatasets
from scientistcloud.database.sqlite.jobs import SqliteJobs
from scientistcloud.database.sqlite.meta import SqliteMeta
from scientistcloud.database.sqlite.older import SqliteOlderRecords
from scientistcloud.database.sqlite.sessions import SqliteSessions
from scientistcloud.database.sqlite.targets import SqliteTargets
from scientistcloud.database.sqlite.workers import SqliteWorkers
from scientistcloud.ports import (
    Clock,
    CounterStore,
    CredentialStore,
    DatasetStore,
    JobStore,
    MetaStore,
    OlderRecords,
    SessionStore,
    TargetStore,
    WorkerStore,
)


class SqliteStore:
    """The database in the file `path`, made or migrated if need be; errors as `assembly.open_store` says."""

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        path = path.absolute()
        self.url = f"sqlite:///{path}"
        self.clock: Clock = clock or SystemClock()
        self._database = Database(path)
        boot = boot_id()
        self._jobs = SqliteJobs(self._database, self.clock, boot)
        self.jobs: JobStore = self._jobs
        self.targets: TargetStore = SqliteTargets(self._database, self.clock)
        self.datasets: DatasetStore = SqliteDatasets(self._database, self.clock)
        self.workers: WorkerStore = SqliteWorkers(self._database)
        self.sessions: SessionStore = SqliteSessions(self._database, self.clock)
        self.credentials: CredentialStore = SqliteCredentials(self._database, self.clock)
        self.meta: MetaStore = SqliteMeta(self._database, self.clock, boot)
        self.counters: CounterStore = SqliteCounters(self._database)
        self.older: OlderRecords = SqliteOlderRecords(self._database)

    def change_mark(self) -> object:
        return self._database.change_mark()

    def trace(self) -> AbstractContextManager[list[str]]:
        return self._database.trace()

    def share_bell(self, path: Path) -> None:
        """Its own hangs beside the database."""

    def close(self) -> None:
        self._jobs.close()
        self._database.close()
