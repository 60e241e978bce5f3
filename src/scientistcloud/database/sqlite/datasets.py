"""The records of `visstoredatas` with their people, and the source files of each."""

# ruff: noqa: S608  # the names of columns are constants of `rows`

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from scientistcloud.database.sqlite.connection import Database
from scientistcloud.database.sqlite.rows import DATASET_COLUMNS, DATASET_NAMES, changes, column, dataset_of
from scientistcloud.errors import InvalidTransition, NotFound, Stale
from scientistcloud.ports import Clock
from scientistcloud.records import Dataset, DatasetFile, DatasetStatus

_WRITTEN = tuple(name for name in DATASET_NAMES if name not in ("uuid", "version"))
_INSERT = (
    f"INSERT INTO visstoredatas ({DATASET_COLUMNS}) VALUES ({', '.join(':' + name for name in DATASET_NAMES)})"
)
_FILE_COLUMNS = "dataset_uuid, path, size_bytes, sha256, modified_ns"
_FILE_STEP = 500
# As in the index of it: SQLite takes the index only for these very words.
_PUBLIC = "public AND deleted_at IS NULL AND (size_bytes > 0 OR forms <> '[]')"


class SqliteDatasets:
    """`ports.DatasetStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, dataset: Dataset) -> None:
        values = {name: column(getattr(dataset, name)) for name in DATASET_NAMES}
        with self._database.write() as connection:
            if _has(connection, dataset.uuid):
                raise InvalidTransition(f"data set {dataset.uuid} is there already; open one with a new uuid")
            connection.execute(_INSERT, values)

    def get(self, dataset_uuid: str) -> Dataset | None:
        with self._database.read() as connection:
            row = connection.execute(
                f"SELECT {DATASET_COLUMNS} FROM visstoredatas WHERE uuid = ?", (dataset_uuid,)
            ).fetchone()
        return None if row is None else dataset_of(row)

    def update(self, before: Dataset, after: Dataset) -> Dataset:
        values = self._stamped(changes(before, after, _WRITTEN))
        with self._database.write() as connection:
            rows = connection.execute(
                f"UPDATE visstoredatas SET {_assignments(values)}, version = version + 1 "
                f"WHERE uuid = :uuid AND version = :version RETURNING {DATASET_COLUMNS}",
                values | {"uuid": before.uuid, "version": before.version},
            ).fetchall()
            if not rows:
                if not _has(connection, before.uuid):
                    raise _missing(before.uuid)
                raise Stale(f"data set {before.uuid} was changed meanwhile; read it again")
        return dataset_of(rows[0])

    def describe(
        self,
        dataset_uuid: str,
        *,
        name: str | None = None,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        public: bool | None = None,
    ) -> Dataset:
        given = {"name": name, "description": description, "tags": tags, "public": public}
        values = self._stamped({key: column(value) for key, value in given.items() if value is not None})
        with self._database.write() as connection:
            rows = connection.execute(
                f"UPDATE visstoredatas SET {_assignments(values)}, version = version + 1 "
                f"WHERE uuid = :uuid RETURNING {DATASET_COLUMNS}",
                values | {"uuid": dataset_uuid},
            ).fetchall()
        if not rows:
            raise _missing(dataset_uuid)
        return dataset_of(rows[0])

    def find(
        self,
        *,
        user: str,
        statuses: Sequence[DatasetStatus] | None = None,
        text: str | None = None,
        deleted: bool = False,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Dataset]:
        conditions = ["user = :user", "deleted_at IS NOT NULL" if deleted else "deleted_at IS NULL"]
        values: dict[str, object] = {"user": user, "limit": limit}
        if statuses is not None:
            conditions.append("status IN (SELECT value FROM json_each(:statuses))")
            values["statuses"] = column(tuple(statuses))
        return self._newest_first("visstoredatas", conditions, values, text=text, after=after)

    def find_public(
        self,
        *,
        text: str | None = None,
        sensor: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Dataset]:
        conditions, table = [_PUBLIC], "visstoredatas INDEXED BY visstoredatas_public"
        values: dict[str, object] = {"limit": limit}
        if sensor is not None:
            conditions.append("sensor = :sensor")
            table, values["sensor"] = "visstoredatas INDEXED BY visstoredatas_public_sensors", sensor
        return self._newest_first(table, conditions, values, text=text, after=after, of="public")

    def _newest_first(
        self,
        table: str,
        conditions: list[str],
        values: dict[str, object],
        *,
        text: str | None,
        after: str | None,
        of: str = "TRUE",
    ) -> list[Dataset]:
        """A page of those that fulfil the conditions; `after` has to be one of those that fulfil `of`."""
        if text:
            conditions.append(
                r"(folded(name) LIKE :text ESCAPE '\' OR folded(sensor) LIKE :text ESCAPE '\'"
                r" OR folded(description) LIKE :text ESCAPE '\' OR folded(keywords) LIKE :text ESCAPE '\'"
                r" OR EXISTS (SELECT 1 FROM json_each(tags) WHERE folded(value) LIKE :text ESCAPE '\'))"
            )
            values["text"] = _anywhere(text)
        with self._database.read() as connection:
            if after is not None:
                place = connection.execute(
                    f"SELECT created_at, n FROM visstoredatas WHERE uuid = ? AND {of}", (after,)
                ).fetchone()
                if place is None:
                    raise _missing(after)
                conditions.append("(created_at, n) < (:created_at, :n)")
                values |= {"created_at": place[0], "n": place[1]}
            rows = connection.execute(
                f"SELECT {DATASET_COLUMNS} FROM {table} WHERE {' AND '.join(conditions)} "
                "ORDER BY created_at DESC, n DESC LIMIT :limit",
                values,
            ).fetchall()
        return [dataset_of(row) for row in rows]

    def public_sensors(self) -> Mapping[str, int]:
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT sensor, count(*) FROM visstoredatas INDEXED BY visstoredatas_public_sensors "
                f"WHERE {_PUBLIC} GROUP BY sensor"
            ).fetchall()
        return {str(sensor): int(number) for sensor, number in rows}

    def counts(self, *, user: str) -> Mapping[DatasetStatus, int]:
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT status, count(*) FROM visstoredatas WHERE user = ? AND deleted_at IS NULL GROUP BY status",
                (user,),
            ).fetchall()
        return {DatasetStatus(status): number for status, number in rows}

    def stored_bytes(self, *, user: str) -> int:
        with self._database.read() as connection:
            (total,) = connection.execute(
                # Less those that were registered: each sum from an index that has it, or nearly so.
                "SELECT (SELECT coalesce(sum(size_bytes), 0) FROM visstoredatas INDEXED BY visstoredatas_sums"
                " WHERE user = :user AND deleted_at IS NULL)"
                " - (SELECT coalesce(sum(size_bytes), 0) FROM visstoredatas INDEXED BY visstoredatas_place"
                " WHERE place IS NOT NULL AND user = :user AND deleted_at IS NULL)",
                {"user": user},
            ).fetchone()
        return int(total)

    def put_files(self, files: Sequence[DatasetFile]) -> None:
        # In steps, so that a hundred thousand files do not keep the queue waiting.
        for start in range(0, len(files), _FILE_STEP):
            with self._database.write() as connection:
                grown: dict[str, int] = {}
                for file in files[start : start + _FILE_STEP]:
                    size_before = _size_of(connection, file.dataset_uuid, file.path) or 0
                    connection.execute(
                        f"INSERT OR REPLACE INTO files ({_FILE_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
                        (file.dataset_uuid, file.path, file.size_bytes, file.sha256, file.modified_ns),
                    )
                    grown[file.dataset_uuid] = grown.get(file.dataset_uuid, 0) + file.size_bytes - size_before
                for dataset_uuid, size_bytes in grown.items():
                    self._grow(connection, dataset_uuid, size_bytes)

    def files(self, dataset_uuid: str, *, after: str | None = None, limit: int = 1000) -> list[DatasetFile]:
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_FILE_COLUMNS} FROM files WHERE dataset_uuid = ? AND path > ? ORDER BY path LIMIT ?",
                (dataset_uuid, after or "", limit),
            ).fetchall()
        return [
            DatasetFile(
                dataset_uuid=dataset_uuid, path=path, size_bytes=size_bytes, sha256=sha256, modified_ns=modified_ns
            )
            for dataset_uuid, path, size_bytes, sha256, modified_ns in rows
        ]

    def registered(self, place: str) -> list[Dataset]:
        below = place.rstrip("/")
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {DATASET_COLUMNS} FROM visstoredatas WHERE deleted_at IS NULL "
                # From "/" to before "0", its successor: all that begins with the path and a slash.
                "AND (place = :place OR (place >= :below || '/' AND place < :below || '0')) ORDER BY place",
                {"place": place, "below": below},
            ).fetchall()
        return [dataset_of(row) for row in rows]

    def remove_file(self, dataset_uuid: str, path: str) -> None:
        with self._database.write() as connection:
            size_bytes = _size_of(connection, dataset_uuid, path)
            if size_bytes is not None:
                connection.execute("DELETE FROM files WHERE dataset_uuid = ? AND path = ?", (dataset_uuid, path))
                self._grow(connection, dataset_uuid, -size_bytes)

    def remove(self, dataset_uuid: str) -> None:
        with self._database.write() as connection:
            connection.execute("DELETE FROM files WHERE dataset_uuid = ?", (dataset_uuid,))
            connection.execute("DELETE FROM visstoredatas WHERE uuid = ?", (dataset_uuid,))

    def _grow(self, connection: sqlite3.Connection, dataset_uuid: str, size_bytes: int) -> None:
        changed = connection.execute(
            "UPDATE visstoredatas SET size_bytes = size_bytes + ?, updated_at = ?, version = version + 1 "
            "WHERE uuid = ?",
            (size_bytes, self._clock.now().timestamp(), dataset_uuid),
        )
        if not changed.rowcount:
            raise _missing(dataset_uuid)

    def _stamped(self, values: dict[str, str | int | float | None]) -> dict[str, str | int | float | None]:
        return {"updated_at": self._clock.now().timestamp()} | values


def _assignments(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} = :{name}" for name in values)


def _anywhere(text: str) -> str:
    for special in "\\%_":
        text = text.replace(special, "\\" + special)
    return f"%{text.casefold()}%"


def _has(connection: sqlite3.Connection, dataset_uuid: str) -> bool:
    row = connection.execute("SELECT 1 FROM visstoredatas WHERE uuid = ?", (dataset_uuid,)).fetchone()
    return row is not None


def _size_of(connection: sqlite3.Connection, dataset_uuid: str, path: str) -> int | None:
    row = connection.execute(
        "SELECT size_bytes FROM files WHERE dataset_uuid = ? AND path = ?", (dataset_uuid, path)
    ).fetchone()
    return None if row is None else int(row[0])


def _missing(dataset_uuid: str) -> NotFound:
    return NotFound(f"there is no data set {dataset_uuid}; `scientistcloud jobs list` names those that have jobs")
