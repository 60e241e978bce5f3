"""One database on a MongoDB server as a `ports.Store`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from scientistcloud.database.mongo.connection import Connection
from scientistcloud.database.mongo.counters import MongoCounters
from scientistcloud.database.mongo.credentials import MongoCredentials
from scientistcloud.database.mongo.datasets import MongoDatasets
from scientistcloud.database.mongo.jobs import MongoJobs
from scientistcloud.database.mongo.meta import MongoMeta
from scientistcloud.database.mongo.migrations import find, migrate, state
from scientistcloud.database.mongo.older import MongoOlderRecords
from scientistcloud.database.mongo.sessions import MongoSessions
from scientistcloud.database.mongo.targets import MongoTargets
from scientistcloud.database.mongo.waking import Waking
from scientistcloud.database.mongo.workers import MongoWorkers
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


class MongoStore:
    """The database that `url` names, as `assembly.open_store` says."""

    def __init__(self, url: str, *, clock: Clock | None = None, make: bool = True) -> None:
        self.url = url
        self._connection = connection = Connection(url)
        self.clock: Clock = clock or connection.clock
        self._waking = Waking(connection)
        try:
            self._waking.begin()
            if make:
                migrate(connection)
            else:
                find(connection)
        except BaseException:
            connection.close()
            raise
        connection.on_write = self._waking.changed
        self.jobs: JobStore = MongoJobs(connection, self.clock, self._waking)
        self.targets: TargetStore = MongoTargets(connection)
        self.datasets: DatasetStore = MongoDatasets(connection, self.clock)
        self.workers: WorkerStore = MongoWorkers(connection)
        self.sessions: SessionStore = MongoSessions(connection, self.clock)
        self.credentials: CredentialStore = MongoCredentials(connection, self.clock)
        self.meta: MetaStore = MongoMeta(connection, lambda: state(connection))
        self.counters: CounterStore = MongoCounters(connection)
        self.older: OlderRecords = MongoOlderRecords(connection, self.clock)

    def change_mark(self) -> object:
        return self._waking.mark()

    def trace(self) -> AbstractContextManager[list[str]]:
        return self._connection.trace()

    def share_bell(self, path: Path) -> None:
        self._waking.share_bell(path)

    def close(self) -> None:
        self._waking.close()
        self._connection.close()
