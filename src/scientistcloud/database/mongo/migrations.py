"""The shape of the database: its indexes, and a number that tells newer shapes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import pymongo
from pymongo import IndexModel

from scientistcloud.database.mongo.collection import Taken
from scientistcloud.database.mongo.connection import Connection
from scientistcloud.database.mongo.documents import PLACE
from scientistcloud.errors import IncompatibleInstallation, InvalidSettings
from scientistcloud.records import DatabaseState

VERSION = 1
"""Raised when a newer ScientistCloud writes what an older one could not live with."""


_INDEX_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Index:
    """One index; `unique` ones hold a rule and are sparse, so that they see only documents that have the field."""

    fields: tuple[str, ...]
    unique: bool = False
    sparse: bool = False

    @property
    def model(self) -> IndexModel:
        options = {"unique": True} if self.unique else {}
        return IndexModel(
            [(name, 1) for name in self.fields], **options, **({"sparse": True} if self.sparse else {})
        )


INDEXES: Mapping[str, Sequence[Index]] = {
    "jobs": (
        Index(("job_id",), unique=True, sparse=True),
        # The rule that a data set has one head, held by the database itself.
        Index(("head",), unique=True, sparse=True),
        Index(("idempotency_key",), unique=True, sparse=True),
        Index(("waits_for", "job_type", "rank", PLACE)),  # what is claimable, in order
        Index(("waits_for", "dataset_uuid", "seq")),  # who waits for its turn
        Index(("waits_for", "run_at")),  # what will be due
        Index(("status", "lease_seconds", "heartbeat_at")),  # leases that ran out
        Index(("status", "job_type", PLACE)),  # lists
        Index(("dataset_uuid", "seq")),
        Index(("dataset_uuid", "finished_at", "seq")),  # what ended last
        Index(("finished_at", PLACE)),
        Index(("updated_at", "dataset_uuid")),
        Index((PLACE,)),  # in the order of creation; first those of other clients, which have none
    ),
    "visstoredatas": (
        Index(("uuid",), unique=True, sparse=True),
        Index(("user", "created_at", PLACE)),
        Index(("user_id", "created_at", PLACE), sparse=True),
        Index(("public", "created_at", PLACE)),
        Index(("wanted.idempotency_key",), sparse=True),
        Index(("deleted_at",), sparse=True),
        Index(("place",), sparse=True),
        Index(("updated_at",)),
        Index((PLACE,)),
    ),
    "files": (Index(("dataset_uuid", "path"), unique=True),),
    "sessions": (Index(("expires_at",)),),
    "credentials": (Index(("expires_at",)),),
}


def migrate(connection: Connection) -> None:
    """Make what is missing. Raises `IncompatibleInstallation` where the database is of a newer version."""
    with suppress(Taken):
        connection.meta.insert_one({"_id": "shape", "version": VERSION})
    check_version(connection)
    connection.keeps_dates = True
    connection.meta.update_one({"_id": "shape"}, {"$set": {"opened_at": connection.clock.now()}})
    _find_out_about_dates(connection)
    with suppress(Taken):  # drawn when the database was made
        connection.meta.insert_one({"_id": "installation", "value": str(uuid.uuid4())})
    for name, indexes in INDEXES.items():
        collection, models = connection.database[name], [index.model for index in indexes]
        try:
            with pymongo.timeout(_INDEX_SECONDS):  # over many documents of an older system it takes its time
                connection.call(lambda: collection.create_indexes(models))  # noqa: B023  called at once
        except Taken as twice:
            raise IncompatibleInstallation(
                f"the collection {name} of {connection.place} has documents that share what may be there only once "
                f"({twice}); remove or mend them, then start again"
            ) from None


def find(connection: Connection) -> None:
    """Make nothing. Raises `InvalidSettings` where neither ScientistCloud nor an older system has been here."""
    older = (connection.visstoredatas, connection.jobs)
    if not check_version(connection) and not any(each.find_one({}, fields=("status",)) for each in older):
        raise InvalidSettings(
            f"there is no ScientistCloud in the database {connection.place}; set DATABASE_URL to the one that "
            "`scientistcloud serve` uses"
        )
    _find_out_about_dates(connection)


def _find_out_about_dates(connection: Connection) -> None:
    shape = connection.meta.find_one({"_id": "shape"}) or {}
    connection.keeps_dates = "opened_at" not in shape or isinstance(shape["opened_at"], datetime)


def check_version(connection: Connection) -> bool:
    """Whether ScientistCloud has used this database. Raises `IncompatibleInstallation` where a newer one has."""
    shape = connection.meta.find_one({"_id": "shape"})
    if shape is not None and shape["version"] > VERSION:
        raise IncompatibleInstallation(
            f"the database {connection.place} is of a newer ScientistCloud (version {shape['version']} of its "
            f"shape, this one knows {VERSION}); install the newer one"
        )
    return shape is not None


def state(connection: Connection) -> DatabaseState:
    """What the server is, and what is wrong with the database on it."""
    hello = connection.hello()
    about = connection.call(lambda: connection.database.command("buildInfo"))
    kind = f"replica set {hello['setName']}" if "setName" in hello else "a single server"
    if hello.get("msg") == "isdbgrid":
        kind = "a sharded cluster"
    problems = list(_missing_indexes(connection))
    if not hello.get("isWritablePrimary", True):
        problems.append("it takes no writes just now: it is not the primary")
    return DatabaseState(
        summary=f"MongoDB {about.get('version', '?')} at {connection.place}, {kind}", problems=tuple(problems)
    )


def _missing_indexes(connection: Connection) -> Iterator[str]:
    for name, indexes in INDEXES.items():
        collection = connection.database[name]
        found = connection.call(collection.index_information)
        # By their fields: servers name them as they like.
        there = {tuple(key for key, _ in each["key"]): bool(each.get("unique")) for each in found.values()}
        for index in indexes:
            said = f"the index of {name} on {', '.join(index.fields)}"
            if index.fields not in there:
                yield f"{said} is missing; start a worker or the portal, which makes it"
            elif index.unique and not there[index.fields]:
                yield f"{said} is not unique, so it does not hold its rule; drop it, then start a worker"
