"""The two collections as they lie there, for taking over what an older system wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from scientistcloud.database.mongo.collection import Collection, Document, Server
from scientistcloud.database.mongo.documents import (
    DATASET_FIELDS,
    PLACE,
    document_of,
    folded_of,
    update_of,
    value_of,
)
from scientistcloud.database.mongo.places import Places
from scientistcloud.ports import Clock
from scientistcloud.records import Dataset, Found, JobStatus, Json

_PAGE = 500
# What is compared when a record is taken: each write of ours changes one of these, and so does the older system's.
_COMPARED = ("status", "version", "token", "seq", "updated_at")


class MongoOlderRecords:
    """`ports.OlderRecords`."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self._server = server
        self._places = Places(clock)

    def datasets(self) -> Iterator[Found]:
        return self._all(self._server.visstoredatas)

    def take_dataset(self, found: Found, dataset: Dataset, *, drop: Sequence[str] = ()) -> bool:
        values = document_of(dataset, DATASET_FIELDS)
        # A record without a place is another client's until now.
        place = {} if PLACE in found.fields else {PLACE: self._places.next()}
        absent = dict.fromkeys(name for name in DATASET_FIELDS if name not in values)
        ours = absent | values | {"folded": folded_of(values)} | place
        return self._take(self._server.visstoredatas, found, ours | dict.fromkeys(drop))

    def jobs(self) -> Iterator[Found]:
        return self._all(self._server.jobs)

    def take_job(self, found: Found, *, status: JobStatus, parameters: Json, drop: Sequence[str] = ()) -> bool:
        values = {"status": value_of(status), "parameters": value_of(parameters)}
        return self._take(self._server.jobs, found, values | dict.fromkeys(drop))

    def _all(self, collection: Collection) -> Iterator[Found]:
        # First those that other clients wrote, which have no place in our order, then ours by it.
        yield from map(_found, collection.find({PLACE: None}))
        last = 0
        while page := collection.find({PLACE: {"$gt": last}}, sort=[(PLACE, 1)], limit=_PAGE):
            yield from map(_found, page)
            last = page[-1][PLACE]

    def _take(self, collection: Collection, found: Found, values: Document) -> bool:
        now = collection.find_one({"_id": found.place})
        if now is None or _found(now) != found:
            return False
        same = {"_id": found.place} | {name: now.get(name) for name in _COMPARED}
        return collection.update_one(same, update_of(values))


def _found(document: Document) -> Found:
    fields = {name: _plain(value) for name, value in document.items() if name != "_id"}
    return Found(place=document["_id"], fields=fields)


def _plain(value: Any) -> Any:
    """As a JSON value or a time; what only BSON knows (an ObjectId, a decimal) as a text."""
    match value:
        case None | bool() | int() | float() | str() | datetime():
            return value
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case _:
            return str(value)
