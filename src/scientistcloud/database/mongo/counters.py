"""Figures that only grow."""

from __future__ import annotations

import json
from collections.abc import Sequence

from scientistcloud.database.mongo.collection import Server, Taken
from scientistcloud.records import Count


class MongoCounters:
    """`ports.CounterStore`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def add(self, counts: Sequence[Count]) -> None:
        for count in counts:
            # One text as the key: the figure is found by it, and two that are made at once become one.
            key = json.dumps([count.name, *count.labels], ensure_ascii=False)
            while not self._server.counters.update_one({"_id": key}, {"$inc": {"value": count.value}}):
                self._make(key, count)

    def _make(self, key: str, count: Count) -> None:
        labels = [{"name": name, "value": value} for name, value in count.labels]
        new = {"_id": key, "name": count.name, "labels": labels, "value": 0.0}
        try:
            self._server.counters.insert_one(new)
        except Taken:
            return  # another made it

    def all(self) -> list[Count]:
        found = [
            Count(
                name=each["name"],
                labels=tuple((label["name"], label["value"]) for label in each["labels"]),
                value=each["value"],
            )
            for each in self._server.counters.find({})
        ]
        return sorted(found, key=lambda count: (count.name, count.labels))
