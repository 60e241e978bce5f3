"""A server in memory that keeps documents, for the real adapter: each call is one step, before and after which its
caller may die, hang, or get no answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from simulated_world import World

from scientistcloud.database.mongo.collection import Collection, Document, Filter, Order, Taken, Update
from scientistcloud.database.mongo.datasets import MongoDatasets
from scientistcloud.database.mongo.jobs import MongoJobs
from scientistcloud.database.mongo.meta import MongoMeta
from scientistcloud.database.mongo.migrations import INDEXES
from scientistcloud.database.mongo.targets import MongoTargets
from scientistcloud.errors import Unavailable
from scientistcloud.ports import Clock, DatasetStore, JobStore, MetaStore, TargetStore

_MISSING = object()


class MemoryCollection:
    """`collection.Collection`, in memory."""

    def __init__(self, name: str, world: World) -> None:
        self._name = name
        self._world = world
        self._documents: list[Document] = []
        self._unique = [index.fields for index in INDEXES.get(name, ()) if index.unique] + [("_id",)]

    def find(
        self, which: Filter, *, fields: Sequence[str] | None = None, sort: Order = (), limit: int = 0
    ) -> list[Document]:
        with self._asked("find"):
            found = self._fitting(which, sort)
            return [_seen(each, fields) for each in (found[:limit] if limit else found)]

    def find_one(self, which: Filter, *, fields: Sequence[str] | None = None, sort: Order = ()) -> Document | None:
        with self._asked("find_one"):
            found = self._fitting(which, sort)
            return _seen(found[0], fields) if found else None

    def insert_one(self, document: Document) -> None:
        with self._asked("insert_one"):
            self._add(document)

    def insert_many(self, documents: Sequence[Document]) -> None:
        taken = False
        for document in documents:  # one message, and yet the server can die in the middle
            with self._asked("insert_many"):
                try:
                    self._add(document)
                except Taken:
                    taken = True
        if taken:
            raise Taken(self._name)

    def update_one(self, which: Filter, update: Update, *, upsert: bool = False) -> bool:
        with self._asked("update_one"):
            found = self._fitting(which, ())
            if found:
                self._change(found[0], update)
            elif upsert:
                made: Document = {"_id": which["_id"]}
                self._apply(made, update)
                self._add(made)
            return bool(found) or upsert

    def find_one_and_update(
        self, which: Filter, update: Update, *, fields: Sequence[str] | None = None
    ) -> Document | None:
        with self._asked("find_one_and_update"):
            found = self._fitting(which, ())
            if not found:
                return None
            self._change(found[0], update)
            return _seen(found[0], fields)

    def delete(self, which: Filter) -> int:
        with self._asked("delete"):
            gone = self._fitting(which, ())
            self._documents = [each for each in self._documents if not any(each is other for other in gone)]
            return len(gone)

    def count(self, which: Filter) -> int:
        with self._asked("count"):
            return len(self._fitting(which, ()))

    def sums(self, which: Filter, *, by: str | None, of: str | None) -> dict[Any, int]:
        with self._asked("sums"):
            sums: dict[Any, int] = {}
            for each in self._fitting(which, ()):
                key = None if by is None else _at(each, by)
                sums[key] = sums.get(key, 0) + (1 if of is None else each.get(of, 0))
            return sums

    # -- details ---------------------------------------------------------------------------------

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        what = f"{self._name}.{what}"
        self._world.step(f"before {what}")
        if self._world.silent(f"before {what}"):
            raise Unavailable(f"simulated: {what} did not get through")
        try:
            yield
        finally:
            self._world.step(f"after {what}")
        if self._world.silent(f"after {what}"):
            raise Unavailable(f"simulated: the answer of {what} was lost")

    def _fitting(self, which: Filter, sort: Order) -> list[Document]:
        found = [each for each in self._documents if _fits(each, which)]
        for name, direction in reversed(sort):
            found.sort(key=lambda each: _rank(_at(each, name)), reverse=direction < 0)
        return found

    def _add(self, document: Document) -> None:
        self._check(document, itself=None)
        document = _kept(document)
        document.setdefault("_id", f"id {len(self._documents)} {self._world.steps}")
        self._documents.append(document)

    def _change(self, document: Document, update: Update) -> None:
        changed = dict(document)
        self._apply(changed, update)
        self._check(changed, itself=document)
        document.clear()
        document.update(changed)

    def _apply(self, document: Document, update: Update) -> None:
        for operator, values in update.items():
            for name, value in values.items():
                match operator:
                    case "$set":
                        document[name] = _kept(value)
                    case "$unset":
                        document.pop(name, None)
                    case "$inc":
                        document[name] = document.get(name, 0) + value
                    case "$currentDate":
                        document[name] = _kept(self._world.clock.now())
                    case _:
                        raise NotImplementedError(operator)

    def _check(self, document: Document, *, itself: Document | None) -> None:
        for fields in self._unique:
            values = [document.get(name, _MISSING) for name in fields]
            if all(value is _MISSING for value in values):
                continue
            for other in self._documents:
                if other is not itself and [other.get(name, _MISSING) for name in fields] == values:
                    raise Taken(f"{self._name} {fields}")


class MemoryServer:
    """`collection.Server`, in memory."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.jobs: Collection = MemoryCollection("jobs", world)
        self.lanes: Collection = MemoryCollection("lanes", world)
        self.types: Collection = MemoryCollection("types", world)
        self.meta: Collection = MemoryCollection("meta", world)
        self.roles: Collection = MemoryCollection("roles", world)
        self.visstoredatas: Collection = MemoryCollection("visstoredatas", world)
        self.files: Collection = MemoryCollection("files", world)
        self.workers: Collection = MemoryCollection("workers", world)
        self.sessions: Collection = MemoryCollection("sessions", world)
        self.credentials: Collection = MemoryCollection("credentials", world)
        self.counters: Collection = MemoryCollection("counters", world)

    def now(self) -> datetime:
        self._world.step("hello")
        now: datetime = _kept(self._world.clock.now())
        return now


def _not_asked() -> NoReturn:
    raise AssertionError("no simulated process asks what the database is")


class NoBell:
    """Nobody is woken: the processes look often enough."""

    def ring(self) -> None:
        """It is not heard."""

    def sleep(self, seconds: float, until_due: float | None) -> bool:
        raise AssertionError("a simulated process sleeps in its world")

    def rouse(self) -> None:
        """Nobody sleeps here."""


@dataclass(frozen=True, slots=True)
class MongoProcess:
    """What one process has opened."""

    clock: Clock
    jobs: JobStore
    targets: TargetStore
    datasets: DatasetStore
    meta: MetaStore


class MongoSite:
    """The database that all processes share."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._server = MemoryServer(world)

    def process(self) -> MongoProcess:
        server, clock = self._server, self._world.clock
        return MongoProcess(
            clock=clock,
            jobs=MongoJobs(server, clock, NoBell()),
            targets=MongoTargets(server),
            datasets=MongoDatasets(server, clock),
            meta=MongoMeta(server, _not_asked),
        )

    def insert_five_fields(self, **five: str) -> None:
        self._server.jobs.insert_one({**five, "parameters": {}})

    def close(self) -> None:
        """It lies in memory."""


# -- documents -----------------------------------------------------------------------------------


def _kept(value: Any) -> Any:
    """A copy, with what BSON leaves of a time: milliseconds."""
    match value:
        case dict():
            return {key: _kept(each) for key, each in value.items()}
        case list():
            return [_kept(each) for each in value]
        case datetime():
            return value.replace(microsecond=value.microsecond // 1000 * 1000)
        case _:
            return value


def _seen(document: Document, fields: Sequence[str] | None) -> Document:
    chosen: Document = _kept(
        document if fields is None else {name: document[name] for name in fields if name in document}
    )
    return chosen


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(document, dict) or name not in document:
            return None
        document = document[name]
    return document


def _rank(value: Any) -> tuple[bool, Any]:
    return (value is not None, 0 if value is None else value)


def _fits(document: Document, which: Filter) -> bool:
    for name, wanted in which.items():
        if name == "$or":
            fits = any(_fits(document, each) for each in wanted)
        elif name == "$and":
            fits = all(_fits(document, each) for each in wanted)
        elif isinstance(wanted, dict):
            fits = all(_holds(_at(document, name), operator, value) for operator, value in wanted.items())
        else:
            fits = _at(document, name) == wanted
        if not fits:
            return False
    return True


def _holds(value: Any, operator: str, wanted: Any) -> bool:
    match operator:
        case "$exists":
            return (value is not None) is wanted
        case "$in":
            return bool(value in wanted)
        case "$ne":
            return bool(value != wanted)
        case "$gt":
            return value is not None and bool(value > wanted)
        case "$gte":
            return value is not None and bool(value >= wanted)
        case "$lt":
            return value is not None and bool(value < wanted)
        case "$lte":
            return value is not None and bool(value <= wanted)
        case _:
            raise NotImplementedError(operator)
