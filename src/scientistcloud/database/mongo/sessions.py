"""Log-ins of browsers."""

from __future__ import annotations

from scientistcloud.database.mongo.collection import Server
from scientistcloud.ports import Clock
from scientistcloud.records import Session


class MongoSessions:
    """`ports.SessionStore`."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self._server = server
        self._clock = clock

    def add(self, session: Session) -> None:
        self._server.sessions.delete({"expires_at": {"$lte": self._clock.now()}})
        values = {
            "email": session.email,
            "csrf_token": session.csrf_token,
            "created_at": session.created_at,
            "expires_at": session.expires_at,
        }
        self._server.sessions.update_one({"_id": session.id_sha256}, {"$set": values}, upsert=True)

    def get(self, id_sha256: str) -> Session | None:
        found = self._server.sessions.find_one({"_id": id_sha256})
        if found is None or found["expires_at"] <= self._clock.now():
            return None
        return Session(id_sha256=found.pop("_id"), **found)

    def remove(self, id_sha256: str) -> None:
        self._server.sessions.delete({"_id": id_sha256})
