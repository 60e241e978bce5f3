"""What opens remote sources, sealed."""

from __future__ import annotations

from scientistcloud.database.sqlite.connection import Database
from scientistcloud.ports import Clock
from scientistcloud.records import Credential


class SqliteCredentials:
    """`ports.CredentialStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, credential: Credential) -> None:
        with self._database.write() as connection:
            connection.execute("DELETE FROM credentials WHERE expires_at <= ?", (self._clock.now().timestamp(),))
            connection.execute(
                "INSERT INTO credentials (reference, user, sealed, created_at, expires_at) VALUES (?, ?, ?, ?, ?)",
                (
                    credential.reference,
                    credential.user,
                    credential.sealed,
                    credential.created_at.timestamp(),
                    credential.expires_at.timestamp(),
                ),
            )

    def sealed(self, reference: str) -> str | None:
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT sealed FROM credentials WHERE reference = ? AND expires_at > ?",
                (reference, self._clock.now().timestamp()),
            ).fetchone()
        return None if row is None else str(row[0])

    def remove(self, reference: str) -> None:
        with self._database.write() as connection:
            connection.execute("DELETE FROM credentials WHERE reference = ?", (reference,))
