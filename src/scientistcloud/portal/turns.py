"""Who came first: requests for one upload become its writers in the order in which they came.

Their threads do not keep that order. Without it a request whose sender is gone already, but whose thread came late,
would take the upload from the one that goes on with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from scientistcloud.errors import Stale


class _Upload:
    def __init__(self) -> None:
        self.came = 0
        self.newest = 0
        self.one_at_a_time = asyncio.Lock()


class Turn:
    """The place of one request among those for its upload; kept from its first step on."""

    def __init__(self, upload: _Upload, upload_id: str) -> None:
        upload.came += 1
        self._upload, self._number, self._id = upload, upload.came, upload_id

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Become the writer meanwhile. Raises `Stale` where one that came later did."""
        async with self._upload.one_at_a_time:
            if self._upload.newest > self._number:
                raise Stale(f"a newer request goes on with upload {self._id}; ask for its offset")
            self._upload.newest = self._number
            yield


class Turns:
    """The turns of all uploads that requests of this process are about."""

    def __init__(self) -> None:
        self._uploads: WeakValueDictionary[str, _Upload] = WeakValueDictionary()

    def next(self, upload_id: str) -> Turn:
        upload = self._uploads.get(upload_id)
        if upload is None:
            self._uploads[upload_id] = upload = _Upload()
        return Turn(upload, upload_id)
