"""How much may come in, looked at while it comes."""

from __future__ import annotations

import os
from pathlib import Path

from scientistcloud.errors import NoSpace, TooLarge
from scientistcloud.settings import DISK_RESERVE_SHARE
from scientistcloud.tasks.contract import Work

_LOOK_BYTES = 64 << 20


class Room:
    """The room for one import: of the disk, of the owner's quota, of the largest file that is taken."""

    def __init__(
        self, folder: Path, *, limit_bytes: int | None, file_bytes: int | None, reserve_bytes: int | None
    ) -> None:
        self._folder = folder
        self.limit_bytes = limit_bytes
        self._file_bytes = file_bytes
        self._reserve_bytes = reserve_bytes
        self.taken_bytes = 0
        self._looked_at = 0

    @classmethod
    def of(cls, work: Work) -> Room:
        return cls(
            work.keep,
            limit_bytes=work.parameters.get("limit_bytes"),
            file_bytes=work.allowed.get("max_upload_bytes"),
            reserve_bytes=work.allowed.get("disk_reserve_bytes"),
        )

    def expect(self, more_bytes: int, *, name: str, file_bytes: int) -> None:
        """Raise unless `more_bytes` can still come, of the file `name` of `file_bytes` in all."""
        if self._file_bytes is not None and file_bytes > self._file_bytes:
            raise TooLarge(
                f"{name!r} has {file_bytes} bytes, more than the {self._file_bytes} that a file may have"
            )
        if self.limit_bytes is not None and self.taken_bytes + more_bytes > self.limit_bytes:
            raise TooLarge(
                f"{name!r} needs {more_bytes} bytes, and {max(0, self.limit_bytes - self.taken_bytes)} are left; "
                "delete data sets, or ask the operator"
            )
        self.require_on_disk(more_bytes, name=name)

    def add(self, count: int, *, name: str, file_bytes: int) -> None:
        """`count` more bytes of the file `name`, which now has `file_bytes`: also of one that said no length."""
        self.taken_bytes += count
        if self._file_bytes is not None and file_bytes > self._file_bytes:
            raise TooLarge(f"{name!r} goes on beyond the {self._file_bytes} bytes that a file may have")
        if self.limit_bytes is not None and self.taken_bytes > self.limit_bytes:
            raise TooLarge(f"{name!r} goes on beyond the {self.limit_bytes} bytes that are left for it")
        if self.taken_bytes - self._looked_at >= _LOOK_BYTES:
            self._looked_at = self.taken_bytes
            self.require_on_disk(0, name=name)

    def require_on_disk(self, more_bytes: int, *, name: str) -> None:
        facts = os.statvfs(self._folder)
        reserve = self._reserve_bytes
        if reserve is None:
            reserve = int(DISK_RESERVE_SHARE * facts.f_blocks * facts.f_frsize)
        if facts.f_bavail * facts.f_frsize - more_bytes < reserve:
            raise NoSpace(f"the disk has no room for {name!r}; it is tried again")
