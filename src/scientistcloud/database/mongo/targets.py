"""Data sets as the service may see them: every projection names its fields, and none of them is a person's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from scientistcloud.database.mongo.collection import Server
from scientistcloud.database.mongo.documents import TARGET_FIELDS, changes, folded_of, target_of, update_of
from scientistcloud.errors import LeaseLost, NotFound, Stale
from scientistcloud.records import ConversionTarget

_WRITTEN = tuple(name for name in TARGET_FIELDS if name not in ("uuid", "version"))


class MongoTargets:
    """`ports.TargetStore`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def get(self, dataset_uuid: str) -> ConversionTarget | None:
        found = self._server.visstoredatas.find_one({"uuid": dataset_uuid}, fields=TARGET_FIELDS)
        return None if found is None else target_of(found)

    def update(
        self, before: ConversionTarget, after: ConversionTarget, *, token: int | None = None
    ) -> ConversionTarget:
        values = changes(before, after, _WRITTEN)
        if token is None:
            allowed = same_version(before)
        else:
            values["token"] = token
            allowed = not_later_than(token)
        found = self._server.visstoredatas.find_one_and_update(
            {"uuid": before.uuid, **allowed}, versioned(values), fields=TARGET_FIELDS
        )
        if found is not None:
            return target_of(found)
        if self.get(before.uuid) is None:
            raise NotFound(f"there is no data set {before.uuid}; it was removed meanwhile")
        if token is None:
            raise Stale(f"data set {before.uuid} was changed meanwhile; read it again")
        raise _later(before.uuid)

    def promised(self, *, limit: int = 500) -> Sequence[ConversionTarget]:
        found = self._server.visstoredatas.find(
            {"wanted.idempotency_key": {"$exists": True}},
            fields=TARGET_FIELDS,
            sort=[("updated_at", 1)],
            limit=limit,
        )
        return [target_of(each) for each in found]

    def deleted(self, *, before: datetime, limit: int = 100) -> Sequence[ConversionTarget]:
        found = self._server.visstoredatas.find(
            {"deleted_at": {"$lte": before}, "wanted": None},
            fields=TARGET_FIELDS,
            sort=[("deleted_at", 1)],
            limit=limit,
        )
        return [target_of(each) for each in found if each["deleted_at"] < before]

    def remove(self, dataset_uuid: str, *, token: int) -> None:
        gone = self._server.visstoredatas.delete({"uuid": dataset_uuid, **not_later_than(token)})
        if not gone and self._server.visstoredatas.find_one({"uuid": dataset_uuid}, fields=("uuid",)):
            raise _later(dataset_uuid)
        # Last, and again by whoever calls again: nobody sees files without their record.
        self._server.files.delete({"dataset_uuid": dataset_uuid})

    def all(self, *, after: str | None = None, limit: int = 500) -> Sequence[ConversionTarget]:
        found = self._server.visstoredatas.find(
            {"uuid": {"$gt": after or ""}}, fields=TARGET_FIELDS, sort=[("uuid", 1)], limit=limit
        )
        return [target_of(each) for each in found]


def same_version(before: ConversionTarget) -> dict[str, Any]:
    """Matches the record while nobody has written since; what another client wrote has no version yet."""
    return {"version": before.version or {"$in": [0, None]}}


def not_later_than(token: int) -> dict[str, Any]:
    """Matches records that no later attempt wrote; one without a token passes."""
    return {"$or": [{"token": {"$lte": token}}, {"token": None}]}


def versioned(values: dict[str, Any]) -> dict[str, Any]:
    """The update that writes `values` and their twins for searching, and raises the version."""
    update = update_of(values | folded_of(values, prefix="folded."))
    update["$inc"] = {"version": 1}
    if "updated_at" not in values:
        update["$currentDate"] = {"updated_at": True}
    return update


def _later(dataset_uuid: str) -> LeaseLost:
    return LeaseLost(f"data set {dataset_uuid} belongs to a later attempt; this one must change nothing")
