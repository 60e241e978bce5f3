"""Who works: one document a running background service."""

from __future__ import annotations

from dataclasses import asdict

from scientistcloud.database.mongo.collection import Server
from scientistcloud.database.mongo.documents import value_of
from scientistcloud.records import Worker


class MongoWorkers:
    """`ports.WorkerStore`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def announce(self, worker: Worker) -> None:
        values = {name: value_of(value) for name, value in asdict(worker).items() if name != "worker_id"}
        self._server.workers.update_one({"_id": worker.worker_id}, {"$set": values}, upsert=True)

    def leave(self, worker_id: str) -> None:
        self._server.workers.delete({"_id": worker_id})

    def all(self) -> list[Worker]:
        found = [
            Worker(
                worker_id=each["_id"],
                host=each["host"],
                slots=each["slots"],
                job_types=tuple(each["job_types"]),
                sensors=tuple(each["sensors"]),
                version=each["version"],
                started_at=each["started_at"],
                last_seen=each["last_seen"],
            )
            for each in self._server.workers.find({})
        ]
        return sorted(found, key=lambda worker: worker.worker_id)
