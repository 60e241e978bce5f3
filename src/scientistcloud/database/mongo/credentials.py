"""What opens remote sources, sealed."""

from __future__ import annotations

from scientistcloud.database.mongo.collection import Server
from scientistcloud.ports import Clock
from scientistcloud.records import Credential


class MongoCredentials:
    """`ports.CredentialStore`."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self._server = server
        self._clock = clock

    def add(self, credential: Credential) -> None:
        self._server.credentials.delete({"expires_at": {"$lte": self._clock.now()}})
        self._server.credentials.insert_one(
            {
                "_id": credential.reference,
                "user": credential.user,
                "sealed": credential.sealed,
                "created_at": credential.created_at,
                "expires_at": credential.expires_at,
            }
        )

    def sealed(self, reference: str) -> str | None:
        found = self._server.credentials.find_one({"_id": reference}, fields=("sealed", "expires_at"))
        if found is None or found["expires_at"] <= self._clock.now():
            return None
        return str(found["sealed"])

    def remove(self, reference: str) -> None:
        self._server.credentials.delete({"_id": reference})
