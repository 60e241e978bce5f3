"""The open database on a server: its collections, its clock, and what was sent to it.

Threads may share it. A forked child may not: it finds every use refused, and opens one of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from bson import CodecOptions
from bson.json_util import RELAXED_JSON_OPTIONS, dumps
from pymongo import MongoClient, ReadPreference, ReturnDocument, WriteConcern, monitoring
from pymongo.collection import Collection as DriverCollection
from pymongo.database import Database
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from scientistcloud.database.mongo.clock import ServerClock
from scientistcloud.database.mongo.collection import Collection, Document, Filter, Order, Update
from scientistcloud.database.mongo.faults import FAULTS, translated
from scientistcloud.errors import InvalidSettings, InvalidTransition

T = TypeVar("T")

PATIENCE_SECONDS = 5.0
"""How long a call waits for a server that does not answer, if the address says nothing else (`timeoutMS`)."""

_ALL_OF_THEM = CodecOptions[Document](tz_aware=True, tzinfo=UTC)
# Of each command that the driver sends, what says nothing about its meaning.
_ENVELOPE = frozenset({"lsid", "$db", "$clusterTime", "txnNumber", "maxTimeMS", "$readPreference", "ordered"})


class Connection:
    """The database that `url` names. Nothing is asked of the server before the first call.

    Raises `InvalidSettings` where `url` cannot be used.
    """

    def __init__(self, url: str) -> None:
        self.clock = ServerClock()
        self._pid = os.getpid()
        self._observers: list[list[str]] = []
        #: Whether a date in ``$set`` stays one. A server is known that makes a text of it unless it goes the longer
        #: way through the update that an operator without effect makes it go; see docs/decisions/0101.
        self.keeps_dates = True
        #: Called after each write that this process made.
        self.on_write: Callable[[], None] = lambda: None
        try:
            parsed = parse_uri(url)
        except (PyMongoError, ValueError) as wrong:
            raise InvalidSettings(f"DATABASE_URL cannot be used: {wrong}") from wrong
        name = parsed["database"]
        hosts = ",".join(f"{host}:{port}" if port else host for host, port in parsed["nodelist"])
        if not name:
            raise InvalidSettings(
                f"DATABASE_URL names the server {hosts} and no database on it; append one, as in "
                f"mongodb://{hosts}/scientistcloud"
            )
        self.place = f"{hosts}/{name}"
        given = {option.lower() for option in parsed["options"]}
        patience: dict[str, Any] = {} if "timeoutms" in given else {"timeoutMS": int(1000 * PATIENCE_SECONDS)}
        try:
            self._client: MongoClient[Document] = MongoClient(
                url,
                appname="scientistcloud",
                tz_aware=True,
                connect=False,
                event_listeners=[_Statements(self._observers), _Heartbeats(self.clock)],
                **patience,
            )
        except FAULTS as wrong:
            raise translated(wrong, self.place) from wrong
        self.database: Database[Document] = self._client.get_database(
            name,
            codec_options=_ALL_OF_THEM,
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern(w="majority", j=True),
        )
        self.jobs = self._collection("jobs")
        self.lanes = self._collection("lanes")
        self.types = self._collection("types")
        self.meta = self._collection("meta")
        self.roles = self._collection("roles")
        self.visstoredatas = self._collection("visstoredatas")
        self.files = self._collection("files")
        self.workers = self._collection("workers")
        self.sessions = self._collection("sessions")
        self.credentials = self._collection("credentials")
        self.counters = self._collection("counters")

    def now(self) -> datetime:
        return self.hello()["localTime"]  # type: ignore[no-any-return]

    def hello(self) -> Document:
        """What the server says of itself."""
        answer: Document = self.call(lambda: self._client.admin.command("hello", codec_options=_ALL_OF_THEM))
        self.clock.hear(answer["localTime"])
        return answer

    def call(self, ask: Callable[[], T]) -> T:
        """`ask` the driver; its errors become the project's."""
        self.check()
        try:
            return ask()
        except FAULTS as error:
            raise translated(error, self.place) from error

    def check(self) -> None:
        """Raises `InvalidTransition` in a forked child."""
        if os.getpid() != self._pid:
            raise InvalidTransition(
                f"the database {self.place} was opened before this process was forked; open it anew"
            )

    @contextmanager
    def trace(self) -> Iterator[list[str]]:
        """While open, a list that grows by each statement that this process sends."""
        seen: list[str] = []
        self._observers.append(seen)
        try:
            yield seen
        finally:
            # By identity: two lists that saw the same are equal.
            self._observers[:] = [each for each in self._observers if each is not seen]

    def close(self) -> None:
        if os.getpid() == self._pid:
            self._client.close()

    def _collection(self, name: str) -> Collection:
        return WireCollection(self, self.database[name])


class WireCollection:
    """`collection.Collection`, over the wire."""

    def __init__(self, connection: Connection, collection: DriverCollection[Document]) -> None:
        self._connection = connection
        self._collection = collection

    def find(
        self, which: Filter, *, fields: Sequence[str] | None = None, sort: Order = (), limit: int = 0
    ) -> list[Document]:
        return self._ask(
            lambda: list(
                self._collection.find(which, _only(fields), sort=list(sort) or None, limit=limit, batch_size=1000)
            )
        )

    def find_one(self, which: Filter, *, fields: Sequence[str] | None = None, sort: Order = ()) -> Document | None:
        return self._ask(lambda: self._collection.find_one(which, _only(fields), sort=list(sort) or None))

    def insert_one(self, document: Document) -> None:
        self._write(lambda: self._collection.insert_one(document))

    def insert_many(self, documents: Sequence[Document]) -> None:
        self._write(lambda: self._collection.insert_many(documents, ordered=False))

    def update_one(self, which: Filter, update: Update, *, upsert: bool = False) -> bool:
        update = self._with_dates(update)
        result = self._write(lambda: self._collection.update_one(which, update, upsert=upsert))
        return result.matched_count > 0 or result.upserted_id is not None

    def find_one_and_update(
        self, which: Filter, update: Update, *, fields: Sequence[str] | None = None
    ) -> Document | None:
        update = self._with_dates(update)
        return self._write(
            lambda: self._collection.find_one_and_update(
                which, update, _only(fields), return_document=ReturnDocument.AFTER
            )
        )

    def delete(self, which: Filter) -> int:
        return self._write(lambda: self._collection.delete_many(which)).deleted_count

    def count(self, which: Filter) -> int:
        return self._ask(lambda: self._collection.count_documents(which))

    def sums(self, which: Filter, *, by: str | None, of: str | None) -> dict[Any, int]:
        group = {"_id": by and f"${by}", "sum": {"$sum": f"${of}" if of else 1}}
        rows = self._ask(lambda: list(self._collection.aggregate([{"$match": which}, {"$group": group}])))
        return {row["_id"]: int(row["sum"]) for row in rows}

    def _with_dates(self, update: Update) -> Update:
        if self._connection.keeps_dates:
            return update
        parts = {operator: dict(part) for operator, part in update.items()}
        # Nor can that server sort dates that it stamped itself among others.
        if parts.get("$currentDate", {}).pop("updated_at", False):
            parts.setdefault("$set", {})["updated_at"] = self._connection.clock.now()
        if "$set" in parts:
            parts["$pullAll"] = {"_": []}
        return {operator: part for operator, part in parts.items() if part}

    def _ask(self, ask: Callable[[], T]) -> T:
        return self._connection.call(ask)

    def _write(self, ask: Callable[[], T]) -> T:
        try:
            return self._connection.call(ask)
        finally:
            # Also after an error: whether it was written is not known then.
            self._connection.on_write()


def _only(fields: Sequence[str] | None) -> dict[str, int] | None:
    return None if fields is None else dict.fromkeys(fields, 1) | {"_id": 0}


class _Statements(monitoring.CommandListener):
    """Notes what is sent, in the words of the protocol: ``find jobs {"filter": …}``."""

    def __init__(self, observers: list[list[str]]) -> None:
        self._observers = observers

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if not self._observers:
            return
        command: Mapping[str, Any] = event.command
        said = {key: value for key, value in command.items() if key not in _ENVELOPE and key != event.command_name}
        text = (
            f"{event.command_name} {command[event.command_name]} {dumps(said, json_options=RELAXED_JSON_OPTIONS)}"
        )
        for seen in self._observers:
            seen.append(text)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


class _Heartbeats(monitoring.ServerHeartbeatListener):
    """Keeps the clock by what the driver's own watch over the servers hears anyway."""

    def __init__(self, clock: ServerClock) -> None:
        self._clock = clock

    def started(self, event: monitoring.ServerHeartbeatStartedEvent) -> None:
        pass

    def succeeded(self, event: monitoring.ServerHeartbeatSucceededEvent) -> None:
        told = event.reply.document.get("localTime")
        # Only the primary's time counts; and an answer that the server held back may tell when it was asked.
        if event.reply.is_writable and isinstance(told, datetime):
            self._clock.hear(told if told.tzinfo else told.replace(tzinfo=UTC), forward_only=event.awaited)

    def failed(self, event: monitoring.ServerHeartbeatFailedEvent) -> None:
        pass
