"""What the adapter asks of a server: these few calls on single documents, and its clock.

Everything above is written against these protocols, so that a store in memory can stand in for a server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

Document = dict[str, Any]
Filter = Mapping[str, Any]
Update = Mapping[str, Any]
Order = Sequence[tuple[str, int]]


class Taken(Exception):
    """A unique index refused the write: another document has that place. Nothing was changed."""


class Collection(Protocol):
    """One collection. Each write is one atomic step on one document; `insert_many` and `delete` are several such.

    Any call raises `Unavailable` where the server does not answer; then a write may or may not have happened.
    """

    def find(
        self, which: Filter, *, fields: Sequence[str] | None = None, sort: Order = (), limit: int = 0
    ) -> list[Document]:
        """The documents that fit; `fields`: only these leave the server; `limit` 0: all."""

    def find_one(self, which: Filter, *, fields: Sequence[str] | None = None, sort: Order = ()) -> Document | None:
        """The first that fits."""

    def insert_one(self, document: Document) -> None:
        """Add it. Raises `Taken`."""

    def insert_many(self, documents: Sequence[Document]) -> None:
        """Add each, in one message. Raises `Taken` where that befell one; then the others may have been added."""

    def update_one(self, which: Filter, update: Update, *, upsert: bool = False) -> bool:
        """Change one that fits, if there is one; whether there was (or was made by `upsert`). Raises `Taken`."""

    def find_one_and_update(
        self, which: Filter, update: Update, *, fields: Sequence[str] | None = None
    ) -> Document | None:
        """Change one that fits; what it is now, None where none fits. Not for writes that could be `Taken`."""

    def delete(self, which: Filter) -> int:
        """Remove all that fit; how many."""

    def count(self, which: Filter) -> int:
        """How many fit."""

    def sums(self, which: Filter, *, by: str | None, of: str | None) -> dict[Any, int]:
        """For each value of the field `by` (None: for all together, under None) the sum of `of` (None: 1 each)."""


class Server(Protocol):
    """The collections of one database, and the clock by which leases are measured."""

    jobs: Collection
    lanes: Collection
    types: Collection
    meta: Collection
    roles: Collection
    visstoredatas: Collection
    files: Collection
    workers: Collection
    sessions: Collection
    credentials: Collection
    counters: Collection

    def now(self) -> datetime:
        """The server's wall clock at this moment, aware UTC."""


class Bell(Protocol):
    """Wakes those who wait for work."""

    def ring(self) -> None:
        """A job may have become claimable, or due earlier."""

    def sleep(self, seconds: float, until_due: float | None) -> bool:
        """Until somebody rang since this thread woke last, or a job is due; whether that was so."""

    def rouse(self) -> None:
        """Wake every sleeper of this process."""
