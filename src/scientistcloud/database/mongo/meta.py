"""What is known of the installation, and who holds which role in it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from scientistcloud.database.mongo.collection import Server, Taken
from scientistcloud.errors import IncompatibleInstallation
from scientistcloud.records import DatabaseState


class MongoMeta:
    """`ports.MetaStore`; `look` finds out what the database is and what is wrong with it."""

    def __init__(self, server: Server, look: Callable[[], DatabaseState]) -> None:
        self._server = server
        self._look = look

    def installation_id(self) -> str:
        found = self._server.meta.find_one({"_id": "installation"})
        if found is None:
            raise IncompatibleInstallation(
                "the database was emptied while it was open; start all of ScientistCloud anew"
            )
        return str(found["value"])

    def state(self) -> DatabaseState:
        return self._look()

    def hold(self, role: str, holder: str, *, seconds: float) -> bool:
        now = self._server.now()
        mine = {"holder": holder, "seconds": seconds, "at": now}
        found = self._server.roles.find_one({"_id": role})
        if found is None:
            try:
                self._server.roles.insert_one({"_id": role, **mine})
            except Taken:
                return False
            return True
        if found["holder"] != holder and now < found["at"] + timedelta(seconds=found["seconds"]):
            return False
        # As it was read, or another has it by now.
        same = {"_id": role, "holder": found["holder"], "at": found["at"]}
        return self._server.roles.update_one(same, {"$set": mine})

    def release(self, role: str, holder: str) -> None:
        self._server.roles.delete({"_id": role, "holder": holder})
