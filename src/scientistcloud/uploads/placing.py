"""Files put in their place among the source files of a data set: by a rename, durably, under their own names."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from threading import Lock

from scientistcloud.errors import InvalidParameters
from scientistcloud.layout import DataFolder, checked_path, source_path
from scientistcloud.uploads.record import Upload, sync_folder

_PATH_BYTES = 4096  # of Linux
_FOLDERS_KEPT = 1000


class _SharedSyncs:
    """Syncs of folders: threads that need one at the same time share the next that begins."""

    def __init__(self) -> None:
        self._begun: dict[Path, int] = {}
        self._done: dict[Path, int] = {}
        self._locks: dict[Path, Lock] = {}
        self._all = Lock()

    def sync(self, folder: Path) -> None:
        """Make the names in `folder` durable that are there now."""
        with self._all:
            lock = self._locks.setdefault(folder, Lock())
            needed = self._begun.get(folder, 0) + 1  # one that is under way may have begun before ours was there
        with lock:
            with self._all:
                if self._done.get(folder, 0) >= needed:
                    return
                self._begun[folder] = number = self._begun.get(folder, 0) + 1
            sync_folder(folder)
            with self._all:
                self._done[folder] = number
                if len(self._locks) > _FOLDERS_KEPT:
                    self._forget(folder)

    def _forget(self, folder: Path) -> None:
        """Drop what is known of folders that nobody syncs just now."""
        for each in [each for each, lock in self._locks.items() if each != folder and not lock.locked()]:
            del self._locks[each]
            self._begun.pop(each, None)
            self._done.pop(each, None)


class Places:
    """The places of source files below a data folder."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._durable_folders: set[Path] = set()
        self._shared = _SharedSyncs()

    def of(self, dataset_uuid: str, path: str) -> Path:
        """Where the file `path` of the data set lies, or will."""
        return self._folder.dataset(dataset_uuid).source / source_path(path)

    def require(self, dataset_uuid: str, paths: Iterable[str]) -> None:
        """Raises `InvalidParameters` where a file's name is a folder of another's, or too long with ours."""
        # Strings and not paths: there may be many thousands.
        source = str(self._folder.dataset(dataset_uuid).source)
        room = _PATH_BYTES - len(os.fsencode(source)) - 1
        sound = {""}
        new: dict[str, bool] = {}  # folders that are not there yet: nothing in them can be in the way
        for path in map(checked_path, paths):
            if len(path.encode()) >= room:
                raise InvalidParameters(f"the path {path[:60]!r}… is too long; send it with fewer folders")
            parent = path.rpartition("/")[0]
            if (is_new := new.get(parent)) is None:
                is_new = new[parent] = not os.path.lexists(f"{source}/{parent}")
            in_the_way = not is_new and os.path.isdir(f"{source}/{path}")  # noqa: PTH112
            while parent not in sound:
                in_the_way = in_the_way or os.path.isfile(f"{source}/{parent}")  # noqa: PTH113
                sound.add(parent)
                parent = parent.rpartition("/")[0]
            if in_the_way:
                raise InvalidParameters(
                    f"{path!r} cannot be stored: another file of the data set has that name as a folder; "
                    "rename one of them"
                )

    def put(self, data: Path, place: Path) -> None:
        """Rename `data` to `place`, durably. Raises `OSError` where something else is in the way."""
        place.parent.mkdir(parents=True, exist_ok=True)
        data.rename(place)
        self._sync_way_to(place.parent)

    def put_all(self, folder: Path, dataset_uuid: str, files: Iterable[tuple[str, str]]) -> None:
        """Rename each (name in `folder`, path in the data set), durably; those that were before are left out."""
        source = self._folder.dataset(dataset_uuid).source
        source.mkdir(parents=True, exist_ok=True)
        parents: set[str] = set()
        coming = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        going = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name, path in files:
                parent = path.rpartition("/")[0]
                if parent not in parents:
                    (source / parent).mkdir(parents=True, exist_ok=True)
                    parents.add(parent)
                with suppress(FileNotFoundError):
                    os.rename(name, path, src_dir_fd=coming, dst_dir_fd=going)
        finally:
            os.close(coming)
            os.close(going)
        for parent in parents:
            self._sync_way_to(source / parent)

    def holds(self, upload: Upload) -> bool:
        """Whether the file in the upload's place is its own: after a crash another may have replaced it."""
        try:
            return self.of(upload.dataset_uuid, upload.path).stat().st_ino == upload.inode
        except (FileNotFoundError, NotADirectoryError):
            return False

    def remove(self, dataset_uuid: str, path: str) -> None:
        """Remove the file, and the folders that it leaves empty, durably; nothing happens where there is none."""
        place = self.of(dataset_uuid, path)
        with suppress(FileNotFoundError, NotADirectoryError):
            place.unlink()
            sync_folder(place.parent)
            source = self._folder.dataset(dataset_uuid).source
            for parent in place.parents:
                if parent == source:
                    break
                try:
                    parent.rmdir()
                except OSError as kept:
                    if kept.errno != errno.ENOTEMPTY:
                        raise
                    break
                self._durable_folders.discard(parent)

    def _sync_way_to(self, parent: Path) -> None:
        """Make the names in the folder `parent` durable, and those of the folders that lead to it."""
        self._shared.sync(parent)
        if parent not in self._durable_folders:  # else somebody made sure of the way to it before
            for folder in parent.parents:
                sync_folder(folder)
                if folder == self._folder.root:
                    break
            self._durable_folders = {*list(self._durable_folders)[:_FOLDERS_KEPT], parent}
