"""Data sets as the service may see them: every statement names its columns, and none of them is a person's."""

# ruff: noqa: S608  # the names of columns are constants of `rows`

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from scientistcloud.database.sqlite.connection import Database
from scientistcloud.database.sqlite.rows import TARGET_COLUMNS, TARGET_NAMES, changes, target_of
from scientistcloud.errors import LeaseLost, NotFound, Stale
from scientistcloud.ports import Clock
from scientistcloud.records import ConversionTarget

_WRITTEN = tuple(name for name in TARGET_NAMES if name not in ("uuid", "version"))


class SqliteTargets:
    """`ports.TargetStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def get(self, dataset_uuid: str) -> ConversionTarget | None:
        with self._database.read() as connection:
            row = connection.execute(
                f"SELECT {TARGET_COLUMNS} FROM visstoredatas WHERE uuid = ?", (dataset_uuid,)
            ).fetchone()
        return None if row is None else target_of(row)

    def update(
        self, before: ConversionTarget, after: ConversionTarget, *, token: int | None = None
    ) -> ConversionTarget:
        values = changes(before, after, _WRITTEN)
        values["updated_at"] = self._clock.now().timestamp()
        if token is None:
            allowed, measure = "version = :measure", before.version
        else:
            values["token"] = token
            allowed, measure = "token <= :measure", token
        assignments = ", ".join(f"{name} = :{name}" for name in values)
        with self._database.write() as connection:
            rows = connection.execute(
                f"UPDATE visstoredatas SET {assignments}, version = version + 1 WHERE uuid = :uuid AND {allowed} "
                f"RETURNING {TARGET_COLUMNS}",
                values | {"uuid": before.uuid, "measure": measure},
            ).fetchall()
            if not rows:
                there = connection.execute("SELECT 1 FROM visstoredatas WHERE uuid = ?", (before.uuid,)).fetchone()
                if there is None:
                    raise NotFound(f"there is no data set {before.uuid}; it was removed meanwhile")
                if token is None:
                    raise Stale(f"data set {before.uuid} was changed meanwhile; read it again")
                raise LeaseLost(f"data set {before.uuid} belongs to a later attempt; this one must change nothing")
        return target_of(rows[0])

    def promised(self, *, limit: int = 500) -> Sequence[ConversionTarget]:
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {TARGET_COLUMNS} FROM visstoredatas WHERE wanted IS NOT NULL ORDER BY updated_at LIMIT ?",
                (limit,),
            ).fetchall()
        return [target_of(row) for row in rows]

    def deleted(self, *, before: datetime, limit: int = 100) -> Sequence[ConversionTarget]:
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {TARGET_COLUMNS} FROM visstoredatas WHERE deleted_at < ? AND wanted IS NULL "
                "ORDER BY deleted_at LIMIT ?",
                (before.timestamp(), limit),
            ).fetchall()
        return [target_of(row) for row in rows]

    def remove(self, dataset_uuid: str, *, token: int) -> None:
        with self._database.write() as connection:
            gone = connection.execute(
                "DELETE FROM visstoredatas WHERE uuid = ? AND token <= ?", (dataset_uuid, token)
            ).rowcount
            if (
                not gone
                and connection.execute("SELECT 1 FROM visstoredatas WHERE uuid = ?", (dataset_uuid,)).fetchone()
            ):
                raise LeaseLost(f"data set {dataset_uuid} belongs to a later attempt; this one must change nothing")
            connection.execute("DELETE FROM files WHERE dataset_uuid = ?", (dataset_uuid,))

    def all(self, *, after: str | None = None, limit: int = 500) -> Sequence[ConversionTarget]:
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {TARGET_COLUMNS} FROM visstoredatas WHERE uuid > ? ORDER BY uuid LIMIT ?",
                (after or "", limit),
            ).fetchall()
        return [target_of(row) for row in rows]
