"""Small files that are here as a whole: some of them at once share their syncs, and none needs a folder of its own.

A round writes its files under numbers into a folder that the process keeps, makes them durable, writes down what
they are, renames them into their places and records them. Whoever finds the folder of a process that died finishes
its round from the list; a power cut may take the list along, but then nobody was told of the files.

Why not an upload for each: its folder and the files in it would be made and removed again, and a file system takes
long to make a file where many were removed a moment ago (ext4 does not use their places for some minutes, and looks
at each of them). See docs/decisions/0190.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from scientistcloud.errors import CallersMistake, Unavailable
from scientistcloud.uploads.batch import Arrived, Placing, store
from scientistcloud.uploads.record import out_of_space, sync_files
from scientistcloud.uploads.session import locked

_PREFIX, _LIST = ".small-", "list.json"


class SmallFiles:
    """The rounds of one process below the folder `root`. Threads may share it."""

    def __init__(self, root: Path, *, place: Placing) -> None:
        self._root = root
        self._place = place
        self._one_round = threading.Lock()
        self._folder: Path | None = None
        # The folder is locked for as long as the process lives, its list for as long as a round takes.
        self._into = self._list = -1

    def take(self, dataset_uuid: str, files: Sequence[tuple[str, bytes]]) -> list[Arrived]:
        """Put the files (path, content) into the data set, durably. Raises what placing raises."""
        with self._one_round, out_of_space("a small file"):
            folder = self._opened()
            with locked(self._list, "the folder of small files"):
                self._finish_left()
                try:
                    step = [
                        store(content, path, number=number, into=self._into)
                        for number, (path, content) in enumerate(files)
                    ]
                    sync_files(self._into, [str(each.number) for each in step])
                    os.pwrite(self._list, json.dumps([dataset_uuid, step]).encode(), 0)
                    self._place(dataset_uuid, folder, step)
                except Unavailable:  # some may be in their places, and not on record
                    raise
                except BaseException:
                    self._clear(len(files))
                    raise
                os.ftruncate(self._list, 0)
        return step

    def wait_for_others(self) -> None:
        """Return once the rounds that are under way have ended, in any process. Raises `Unavailable`."""
        for folder in self._folders():
            with (
                suppress(FileNotFoundError),
                _open(folder / _LIST, os.O_RDWR) as handle,
                locked(handle, "a round of small files"),
            ):
                pass

    def recover(self) -> int:
        """Finish the rounds of processes that died, and one of ours that found no database; how many."""
        with self._one_round:
            finished = self._finish_left()
        for folder in self._folders():
            with (
                suppress(FileNotFoundError, BlockingIOError),
                _open(folder, os.O_RDONLY | os.O_DIRECTORY) as handle,
            ):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(FileNotFoundError):
                    if (found := _read(folder / _LIST)) is not None:
                        self._place(found[0], folder, found[1])
                        finished += 1
                shutil.rmtree(folder, ignore_errors=True)
        return finished

    def close(self) -> None:
        """Remove the folder, after the round that is under way; the next round makes a new one."""
        with self._one_round:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                os.close(self._list)
                os.close(self._into)
                self._folder = None

    def _finish_left(self) -> int:
        """Finish the round that found no database; 1 if there was one."""
        if self._folder is None or (left := _read(self._folder / _LIST)) is None:
            return 0
        try:
            self._place(left[0], self._folder, left[1])
        except CallersMistake:  # its data set was closed or deleted meanwhile
            self._clear(len(left[1]))
        os.ftruncate(self._list, 0)
        return 1

    def _clear(self, number: int) -> None:
        for each in range(number):
            with suppress(FileNotFoundError):
                os.unlink(str(each), dir_fd=self._into)
        os.ftruncate(self._list, 0)

    def _opened(self) -> Path:
        if self._folder is None:
            folder = self._root / f"{_PREFIX}{uuid.uuid4().hex}"
            folder.mkdir(parents=True)
            self._into = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._into, fcntl.LOCK_EX)
            self._list = os.open(_LIST, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644, dir_fd=self._into)
            self._folder = folder
        return self._folder

    def _folders(self) -> list[Path]:
        try:
            return [Path(entry.path) for entry in os.scandir(self._root) if entry.name.startswith(_PREFIX)]
        except FileNotFoundError:
            return []


@contextmanager
def _open(path: Path, flags: int) -> Iterator[int]:
    handle = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _read(file: Path) -> tuple[str, list[Arrived]] | None:
    """Data set and files of the round; None where there was none, or its list was cut off."""
    try:
        dataset_uuid, step = json.loads(file.read_bytes())
    except ValueError:
        return None
    return dataset_uuid, [Arrived(*each) for each in step]
