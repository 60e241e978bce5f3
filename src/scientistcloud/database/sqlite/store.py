"""One SQLite file as a `ports.Store`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from scientistcloud.database.sqlite.clock import SystemClock, boot_id
from scientistcloud.database.sqlite.connection import Database
from scientistcloud.database.sqlite.datasets import SqliteDatasets
from scientistcloud.database.sqlite.meta import SqliteMeta
from scientistcloud.database.sqlite.sessions import SqliteSessions
from scientistcloud.database.sqlite.targets import SqliteTargets
from scientistcloud.database.sqlite.workers import SqliteWorkers
from scientistcloud.ports import Clock


class SqliteStore:
    """The database in the file `path`, made or migrated if need be; errors as `assembly.open_store` says."""

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        path = path.absolute()
        self.url = f"sqlite:///{path}"
        self.clock: Clock = clock or SystemClock()
        self._database = Database(path)
        self.targets = SqliteTargets(self._database, self.clock)
        self.datasets = SqliteDatasets(self._database, self.clock)
        self.workers = SqliteWorkers(self._database)
        self.sessions = SqliteSessions(self._database, self.clock)
        self.meta = SqliteMeta(self._database, self.clock, boot_id())

    def change_mark(self) -> object:
        return self._database.change_mark()

    def statements(self) -> AbstractContextManager[list[str]]:
        return self._database.statements()

    def close(self) -> None:
        self._database.close()
