"""What is known of the installation, and who holds which role in it."""

from __future__ import annotations

import sqlite3

from scientistcloud.database.sqlite.connection import Database
from scientistcloud.database.sqlite.migrations import expected, objects
from scientistcloud.ports import Clock
from scientistcloud.records import DatabaseState

_SIZE = ("page_count", "page_size")


class SqliteMeta:
    """`ports.MetaStore`."""

    def __init__(self, database: Database, clock: Clock, boot_id: str) -> None:
        self._database = database
        self._clock = clock
        self._boot_id = boot_id

    def installation_id(self) -> str:
        with self._database.read() as connection:
            (found,) = connection.execute("SELECT value FROM meta WHERE name = 'installation_id'").fetchone()
        return str(found)

    def state(self) -> DatabaseState:
        path = self._database.path
        with self._database.read() as connection:
            damage = [str(said) for (said,) in connection.execute("PRAGMA quick_check(5)") if said != "ok"]
            there = objects(connection)
            (pages, page_bytes) = (connection.execute(f"PRAGMA {each}").fetchone()[0] for each in _SIZE)
        problems = [
            f"it is damaged ({said}); stop all of ScientistCloud and put a copy of it back" for said in damage
        ]
        problems += [
            f"{kind} {name} is missing; stop all of ScientistCloud and put a copy of the database back"
            for kind, name in sorted(expected() - there)
        ]
        size = f"{pages * page_bytes / 1e6:.1f} MB"
        return DatabaseState(summary=f"SQLite {sqlite3.sqlite_version} at {path}, {size}", problems=tuple(problems))

    def hold(self, role: str, holder: str, *, seconds: float) -> bool:
        beat = self._clock.monotonic()
        with self._database.write(durable=False) as connection:
            row = connection.execute(
                "SELECT holder, beat + seconds, boot_id FROM roles WHERE role = ?", (role,)
            ).fetchone()
            if row is not None:
                other, until, boot_id = row
                # What was promised before the machine started again is void: its holder is gone.
                if other != holder and boot_id == self._boot_id and beat < until:
                    return False
            connection.execute(
                "INSERT OR REPLACE INTO roles (role, holder, seconds, beat, boot_id) VALUES (?, ?, ?, ?, ?)",
                (role, holder, seconds, beat, self._boot_id),
            )
        return True

    def release(self, role: str, holder: str) -> None:
        with self._database.write(durable=False) as connection:
            connection.execute("DELETE FROM roles WHERE role = ? AND holder = ?", (role, holder))
