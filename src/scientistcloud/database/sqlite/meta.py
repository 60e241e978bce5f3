"""What is known of the installation, and who holds which role in it."""

from __future__ import annotations

from scientistcloud.database.sqlite.connection import Database
from scientistcloud.ports import Clock


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
