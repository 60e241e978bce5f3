"""Log-ins of browsers."""

from __future__ import annotations

from scientistcloud.database.sqlite.connection import Database
from scientistcloud.database.sqlite.rows import moment
from scientistcloud.ports import Clock
from scientistcloud.records import Session


class SqliteSessions:
    """`ports.SessionStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, session: Session) -> None:
        with self._database.write(durable=False) as connection:
            connection.execute("DELETE FROM sessions WHERE expires_at <= ?", (self._clock.now().timestamp(),))
            connection.execute(
                "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?)",
                (
                    session.id_sha256,
                    session.email,
                    session.csrf_token,
                    session.created_at.timestamp(),
                    session.expires_at.timestamp(),
                ),
            )

    def get(self, id_sha256: str) -> Session | None:
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT email, csrf_token, created_at, expires_at FROM sessions "
                "WHERE id_sha256 = ? AND expires_at > ?",
                (id_sha256, self._clock.now().timestamp()),
            ).fetchone()
        if row is None:
            return None
        email, csrf_token, created_at, expires_at = row
        return Session(
            id_sha256=id_sha256,
            email=email,
            csrf_token=csrf_token,
            created_at=moment(created_at),
            expires_at=moment(expires_at),
        )

    def remove(self, id_sha256: str) -> None:
        with self._database.write(durable=False) as connection:
            connection.execute("DELETE FROM sessions WHERE id_sha256 = ?", (id_sha256,))
