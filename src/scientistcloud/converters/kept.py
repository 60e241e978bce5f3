"""Decoded blocks of a source of which a part was not read yet, so that none is decoded twice.

What does not fit memory goes into a file without a name, from which parts are read by position; a crash leaves
nothing of it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from scientistcloud.omezarr.image import Array, Region

KEPT_BYTES = 24 << 20
"""So much is kept in memory."""
_ROOM = 4  # the file takes at most a fifth of what is free: the output lies on the same disk


@dataclass(slots=True)
class _Entry:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    values: Future[Array] | None = None
    #: Where it lies in the file; None where it is in memory.
    offset: int | None = None
    seen: list[Region] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


class Kept:
    """Blocks by key. Safe from several threads."""

    def __init__(self, scratch: Path | None, *, memory_bytes: int | None = None) -> None:
        self._folder = scratch
        self._most_bytes = KEPT_BYTES if memory_bytes is None else memory_bytes
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._bytes = 0
        self._file: Any = None
        self._end = 0
        self._free: dict[int, list[int]] = {}
        self._lock = threading.Lock()
        self._large = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._entries.clear()
            self._bytes = 0
            if self._file is not None:
                self._file.close()
                self._file = None

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def part(
        self,
        key: Hashable,
        part: Region,
        *,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        voxels: int,
        decode: Callable[[], Array],
    ) -> Array:
        """The box `part` of the block `key` of `shape`, of which `voxels` are wanted before it is let go of.

        `decode` is called for the first part that anybody asks for, and what it raises is raised to all who wait.
        """
        with self._lock:
            entry = self._entries.get(key)
            ours = entry is None
            if entry is None:
                entry = self._entries[key] = _Entry(shape, dtype, Future())
                self._bytes += entry.nbytes
            self._entries.move_to_end(key)
            entry.seen.append(part)
            complete = covered(entry.seen) >= voxels
            values, offset = entry.values, entry.offset
            if values is None:
                assert offset is not None
                found = self._load(entry, part)
                if complete:
                    self._drop(key)
                return found
        # Of blocks that are too large to be kept, one is in memory at a time, and no part holds on to it.
        large = entry.nbytes > self._most_bytes
        with self._large if large and ours else nullcontext():  # who waits for another's must not hold it up
            if ours:
                try:
                    values.set_result(decode())
                except BaseException as failed:  # noqa: BLE001 - raised again by whoever asks for the block
                    values.set_exception(failed)
            found = values.result()[part]
            found = found.copy() if large else found
            del values
            with self._lock:
                if complete and key in self._entries:
                    self._drop(key)
                self._make_room()
        return found

    def _make_room(self) -> None:
        """Move what was used longest ago into the file; without room there, it will be decoded again."""
        for key, entry in list(self._entries.items()):
            if self._bytes <= self._most_bytes:
                return
            values = entry.values
            if values is None or not values.done():
                continue
            sound = values.exception() is None and values.result().shape == entry.shape
            if sound and self._store(entry, values.result()):
                entry.values = None
                self._bytes -= entry.nbytes
            else:
                self._drop(key)

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key)
        if entry.values is not None:
            self._bytes -= entry.nbytes
        elif entry.offset is not None:
            self._free.setdefault(entry.nbytes, []).append(entry.offset)

    # -- the file ------------------------------------------------------------------------------

    def _store(self, entry: _Entry, values: Array) -> bool:
        """Write a block into the file; False where there is no room for it."""
        folder = self._folder if self._folder and self._folder.is_dir() else Path(tempfile.gettempdir())
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - until `close`
            if free := self._free.get(entry.nbytes):
                offset = free.pop()
            elif shutil.disk_usage(folder).free > _ROOM * (self._end + entry.nbytes):
                offset = self._end
                self._end += entry.nbytes
            else:
                return False
            data = memoryview(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
            done = 0
            while done < len(data):
                done += os.pwrite(self._file.fileno(), data[done:], offset + done)
        except OSError:
            return False
        entry.offset = offset
        return True

    def _load(self, entry: _Entry, part: Region) -> Array:
        """A box: of the first axis that is longer than 1, only what is wanted is read."""
        assert entry.offset is not None
        axis = next((k for k, length in enumerate(entry.shape) if length > 1), 0)
        rows = part[axis]
        shape = (*entry.shape[:axis], rows.stop - rows.start, *entry.shape[axis + 1 :])
        out = np.empty(shape, entry.dtype)
        target: Any = memoryview(out.reshape(-1).view(np.uint8).data)
        start = entry.offset + rows.start * (out.nbytes // max(1, rows.stop - rows.start))
        got = 0
        while got < len(target):
            count = os.preadv(self._file.fileno(), [target[got:]], start + got)
            if count == 0:
                raise OSError("the file of decoded blocks is shorter than it was written")
            got += count
        return out[(*part[:axis], slice(0, rows.stop - rows.start), *part[axis + 1 :])]


def covered(boxes: Sequence[Region]) -> int:
    """How many places lie in at least one of `boxes`."""
    if len(boxes) == 1:
        return prod(side.stop - side.start for side in boxes[0])
    cuts = [
        np.unique([edge for side in sides for edge in (side.start, side.stop)])
        for sides in zip(*boxes, strict=True)
    ]
    grid = np.zeros([len(cut) - 1 for cut in cuts], np.bool_)
    for box in boxes:
        grid[
            tuple(
                slice(*np.searchsorted(cut, (side.start, side.stop)).tolist())
                for cut, side in zip(cuts, box, strict=True)
            )
        ] = True
    volume: Any = grid
    for cut in reversed(cuts):
        volume = volume @ np.diff(cut)
    return int(volume)
