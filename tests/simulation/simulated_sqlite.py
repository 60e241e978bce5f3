"""The real SQLite adapter, with a step around each transaction and a possible death at each statement in one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulated_world import World

from scientistcloud.database.sqlite.connection import Database
from scientistcloud.database.sqlite.datasets import SqliteDatasets
from scientistcloud.database.sqlite.jobs import SqliteJobs
from scientistcloud.database.sqlite.meta import SqliteMeta
from scientistcloud.database.sqlite.targets import SqliteTargets
from scientistcloud.errors import Unavailable
from scientistcloud.ports import Clock, DatasetStore, JobStore, MetaStore, TargetStore

_TABLES = ("jobs", "lanes", "types", "roles", "visstoredatas", "files")


class SteppedDatabase(Database):
    """One file for all seeds; `world` is whose turn it is. Its connections stand for those of every process."""

    def __init__(self, path: Path) -> None:
        self.world: World | None = None
        super().__init__(path)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        if self.world is not None:
            self.world.step("before a look")
        with super().read() as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        world = self.world
        if world is None:
            with super().write(durable=durable) as connection:
                yield connection
            return
        world.step("before a transaction")
        if world.silent("before a transaction"):
            raise Unavailable("simulated: somebody else writes")
        with super().write(durable=False) as connection:
            # Nobody comes between its statements: the others wait at the lock.
            yield _Mortal(connection, world)  # type: ignore[misc]
        world.step("after a transaction")
        if world.silent("after a transaction"):
            raise Unavailable("simulated: the disk did not answer")

    def make_durable(self) -> None:
        if self.world is not None:
            self.world.step("before the disk has it")

    def empty(self) -> None:
        """As new, for the next seed."""
        self.world = None
        with super().write(durable=False) as connection:
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table}")


class _Mortal:
    """The writing connection: its process may die before and after each statement."""

    def __init__(self, connection: sqlite3.Connection, world: World) -> None:
        self._connection = connection
        self._world = world

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        self._world.step("a statement", others=False)
        return self._connection.execute(statement, values)

    def executemany(self, statement: str, values: Any) -> sqlite3.Cursor:
        self._world.step("statements", others=False)
        return self._connection.executemany(statement, values)


@dataclass(frozen=True, slots=True)
class SqliteProcess:
    """What one process has opened."""

    clock: Clock
    jobs: JobStore
    targets: TargetStore
    datasets: DatasetStore
    meta: MetaStore


class SqliteSite:
    """The database that all processes share."""

    def __init__(self, world: World, database: SteppedDatabase) -> None:
        self._world = world
        self._database = database
        self._opened: list[SqliteJobs] = []
        database.empty()
        database.world = world

    def process(self) -> SqliteProcess:
        database, clock = self._database, self._world.clock
        jobs = SqliteJobs(database, clock, "boot")
        self._opened.append(jobs)
        return SqliteProcess(
            clock=clock,
            jobs=jobs,
            targets=SqliteTargets(database, clock),
            datasets=SqliteDatasets(database, clock),
            meta=SqliteMeta(database, clock, "boot"),
        )

    def insert_five_fields(self, **five: str) -> None:
        with self._database.write() as connection:
            connection.execute(
                f"INSERT INTO jobs ({', '.join(five)}) VALUES ({', '.join('?' * len(five))})", [*five.values()]
            )

    def close(self) -> None:
        self._database.world = None
        for jobs in self._opened:
            jobs.close()
