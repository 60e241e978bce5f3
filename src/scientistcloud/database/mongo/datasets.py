"""The records of `visstoredatas` with their people, and the source files of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from scientistcloud.database.mongo.collection import Document, Filter, Server, Taken
from scientistcloud.database.mongo.documents import (
    DATASET_FIELDS,
    PLACE,
    SEARCHED,
    changes,
    dataset_of,
    document_of,
    folded_of,
    status_of,
    value_of,
)
from scientistcloud.database.mongo.places import Places
from scientistcloud.database.mongo.targets import same_version, versioned
from scientistcloud.errors import InvalidTransition, NotFound, Stale
from scientistcloud.ports import Clock
from scientistcloud.records import Dataset, DatasetFile, DatasetStatus

_WRITTEN = tuple(name for name in DATASET_FIELDS if name not in ("uuid", "version"))
_FILE_FIELDS = ("dataset_uuid", "path", "size_bytes", "sha256", "modified_ns")
_FILE_STEP = 500
_PUBLIC: list[Filter] = [
    {"public": True},
    {"deleted_at": None},
    {
        "$or": [
            {"size_bytes": {"$gt": 0}},
            {"$nor": [{"forms": {"$size": 0}}, {"forms": {"$exists": False}}]},
        ]
    },
]


class MongoDatasets:
    """`ports.DatasetStore`."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self._server = server
        self._places = Places(clock)

    def add(self, dataset: Dataset) -> None:
        values = document_of(dataset, DATASET_FIELDS)
        try:
            self._server.visstoredatas.insert_one(
                values | {"folded": folded_of(values), PLACE: self._places.next()}
            )
        except Taken:
            raise InvalidTransition(f"data set {dataset.uuid} is there already; open one with a new uuid") from None

    def get(self, dataset_uuid: str) -> Dataset | None:
        found = self._server.visstoredatas.find_one({"uuid": dataset_uuid})
        return None if found is None else dataset_of(found)

    def update(self, before: Dataset, after: Dataset) -> Dataset:
        found = self._server.visstoredatas.find_one_and_update(
            {"uuid": before.uuid, **same_version(before)}, versioned(changes(before, after, _WRITTEN))
        )
        if found is not None:
            return dataset_of(found)
        if self._server.visstoredatas.find_one({"uuid": before.uuid}, fields=("uuid",)) is None:
            raise _missing(before.uuid)
        raise Stale(f"data set {before.uuid} was changed meanwhile; read it again")

    def describe(
        self,
        dataset_uuid: str,
        *,
        name: str | None = None,
        description: str | None = None,
        tags: Sequence[str] | None = None,
        public: bool | None = None,
    ) -> Dataset:
        given = {"name": name, "description": description, "tags": tags, "public": public}
        values = {key: value_of(value) for key, value in given.items() if value is not None}
        found = self._server.visstoredatas.find_one_and_update({"uuid": dataset_uuid}, versioned(values))
        if found is None:
            raise _missing(dataset_uuid)
        return dataset_of(found)

    def find(
        self,
        *,
        user: str,
        statuses: Sequence[DatasetStatus] | None = None,
        text: str | None = None,
        deleted: bool = False,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Dataset]:
        conditions: list[Filter] = [_of(user), {"deleted_at": {"$exists": True} if deleted else None}]
        if statuses is not None:
            conditions.append({"status": {"$in": [status.value for status in statuses]}})
        return self._newest_first(conditions, text=text, after=after, limit=limit)

    def find_public(
        self,
        *,
        text: str | None = None,
        sensor: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Dataset]:
        conditions = [*_PUBLIC] if sensor is None else [*_PUBLIC, {"sensor": sensor}]
        return self._newest_first(conditions, text=text, after=after, limit=limit, of={"public": True})

    def public_sensors(self) -> Mapping[str, int]:
        numbers = self._server.visstoredatas.sums({"$and": _PUBLIC}, by="sensor", of=None)
        # What an older client left out counts as in the record.
        return {sensor or "auto": number for sensor, number in numbers.items()}

    def _newest_first(
        self,
        conditions: list[Filter],
        *,
        text: str | None,
        after: str | None,
        limit: int,
        of: Filter | None = None,
    ) -> list[Dataset]:
        """A page of those that fulfil the conditions; `after` has to be one of those that fulfil `of`."""
        if text:
            if "\0" in text:
                return []  # no text has that
            part = {"$regex": re.escape(text.casefold())}
            conditions.append({"$or": [{f"folded.{name}": part} for name in SEARCHED]})
        if after is not None:
            place = self._server.visstoredatas.find_one({"uuid": after, **(of or {})}, fields=("created_at", PLACE))
            if place is None:
                raise _missing(after)
            made = place.get("created_at")
            older = [{"created_at": {"$lt": made}}, {"created_at": made, PLACE: {"$lt": place.get(PLACE)}}]
            conditions.append({"$or": older})
        found = self._server.visstoredatas.find(
            {"$and": conditions}, sort=[("created_at", -1), (PLACE, -1)], limit=limit
        )
        return [dataset_of(each) for each in found]

    def counts(self, *, user: str) -> Mapping[DatasetStatus, int]:
        numbers = self._server.visstoredatas.sums({"$and": [_of(user), {"deleted_at": None}]}, by="status", of=None)
        return {status_of({"status": status}): number for status, number in numbers.items()}

    def stored_bytes(self, *, user: str) -> int:
        sums = self._server.visstoredatas.sums(
            {"$and": [_of(user), {"deleted_at": None, "place": None}]}, by=None, of="size_bytes"
        )
        return sums.get(None, 0)

    def put_files(self, files: Sequence[DatasetFile]) -> None:
        by_dataset: dict[str, dict[str, DatasetFile]] = {}
        for file in files:
            by_dataset.setdefault(file.dataset_uuid, {})[file.path] = file
        for dataset_uuid, of_one in by_dataset.items():
            if self._server.visstoredatas.find_one({"uuid": dataset_uuid}, fields=("uuid",)) is None:
                raise _missing(dataset_uuid)
            paths = list(of_one)
            for start in range(0, len(paths), _FILE_STEP):
                self._put_some(dataset_uuid, [of_one[path] for path in paths[start : start + _FILE_STEP]])

    def _put_some(self, dataset_uuid: str, files: Sequence[DatasetFile]) -> None:
        """Files of one data set, and then its size: a crash between the two is mended by saying the same again."""
        known = {
            each["path"]: each
            for each in self._server.files.find(
                {"dataset_uuid": dataset_uuid, "path": {"$in": [file.path for file in files]}}, fields=_FILE_FIELDS
            )
        }
        documents = [_document(file) for file in files]
        said_again = any(known.get(each["path"]) == each for each in documents)
        self._insert([each for each in documents if each["path"] not in known])
        for each in documents:
            if each["path"] in known and known[each["path"]] != each:
                self._put(each)
        if said_again:
            # It may not have been counted the first time.
            sums = self._server.files.sums({"dataset_uuid": dataset_uuid}, by=None, of="size_bytes")
            self._resize(dataset_uuid, {"$set": {"size_bytes": sums.get(None, 0)}})
        else:
            before = sum(each["size_bytes"] for each in known.values())
            grown = sum(file.size_bytes for file in files) - before
            self._resize(dataset_uuid, {"$inc": {"size_bytes": grown}})

    def _insert(self, documents: Sequence[Document]) -> None:
        if not documents:
            return
        try:
            self._server.files.insert_many([dict(each) for each in documents])
        except Taken:  # another puts the same files just now
            for each in documents:
                self._put(each)

    def _put(self, document: Document) -> None:
        key = {"dataset_uuid": document["dataset_uuid"], "path": document["path"]}
        values = {name: value for name, value in document.items() if name not in key}
        absent = {name: "" for name in _FILE_FIELDS if name not in document}
        update = {"$set": values} | ({"$unset": absent} if absent else {})
        while not self._server.files.update_one(key, update):
            try:
                self._server.files.insert_one(dict(document))
            except Taken:
                continue
            return

    def files(self, dataset_uuid: str, *, after: str | None = None, limit: int = 1000) -> list[DatasetFile]:
        found = self._server.files.find(
            {"dataset_uuid": dataset_uuid, "path": {"$gt": after or ""}},
            fields=_FILE_FIELDS,
            sort=[("path", 1)],
            limit=limit,
        )
        return [DatasetFile(**each) for each in found]

    def registered(self, place: str) -> list[Dataset]:
        below = place.rstrip("/")
        # From "/" to before "0", its successor: all that begins with the path and a slash.
        inside = {"place": {"$gte": f"{below}/", "$lt": f"{below}0"}}
        found = self._server.visstoredatas.find(
            {"deleted_at": None, "$or": [{"place": place}, inside]}, sort=[("place", 1)]
        )
        return [dataset_of(each) for each in found]

    def remove_file(self, dataset_uuid: str, path: str) -> None:
        key = {"dataset_uuid": dataset_uuid, "path": path}
        found = self._server.files.find_one(key, fields=("size_bytes",))
        if found is not None and self._server.files.delete(key):
            self._resize(dataset_uuid, {"$inc": {"size_bytes": -found["size_bytes"]}})

    def remove(self, dataset_uuid: str) -> None:
        self._server.visstoredatas.delete({"uuid": dataset_uuid})
        self._server.files.delete({"dataset_uuid": dataset_uuid})

    def _resize(self, dataset_uuid: str, update: dict[str, Any]) -> None:
        update.setdefault("$inc", {})["version"] = 1
        update["$currentDate"] = {"updated_at": True}
        if not self._server.visstoredatas.update_one({"uuid": dataset_uuid}, update):
            raise _missing(dataset_uuid)


def _of(user: str) -> Filter:
    """The older system wrote the owner into `user_id`."""
    return {"$or": [{"user": user}, {"user_id": user}]}


def _document(file: DatasetFile) -> Document:
    return {name: value for name in _FILE_FIELDS if (value := getattr(file, name)) is not None}


def _missing(dataset_uuid: str) -> NotFound:
    return NotFound(f"there is no data set {dataset_uuid}; `scientistcloud jobs list` names those that have jobs")
