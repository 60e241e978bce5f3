"""Many small files at once: each step of up to 64 MiB costs the syncs of one file, and appears whole or not at all.

The files of a step are written under numbers into the folder of an upload, with a list of what they are; one
`syncfs` makes all of that durable, and the list's name the promise. Then they are renamed into their places and
recorded. The upload is held for as long as that takes, so that whoever can hold it knows that its process died:
with a list, the step is finished; without one, nothing was promised.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from scientistcloud.errors import InvalidParameters, NotFound, ScientistCloudError
from scientistcloud.uploads.folder import UploadsFolder
from scientistcloud.uploads.record import Upload, out_of_space, sync_disk, sync_folder
from scientistcloud.uploads.session import Hash
from scientistcloud.uploads.tarstream import TarStream

_LOG = logging.getLogger(__name__)

LARGEST_BYTES = 2**20
"""A larger file is uploaded by itself."""
STEP_BYTES, STEP_FILES = 64 * 2**20, 16_384
_LIST, _FILES = "list.json", "files"


class Arrived(NamedTuple):
    """A file of a batch: the number under which it lies, and what it is."""

    number: int
    path: str
    size_bytes: int
    sha256: str


#: Puts files, which lie under their numbers in the folder, into the data set of this uuid, and records them; raises
#: where one cannot be, before any is.
Placing = Callable[[str, Path, Sequence[Arrived]], None]


def store(content: bytes | memoryview, path: str, *, number: int, into: int) -> Arrived:
    """Write the file under its number into the open folder `into`."""
    size_bytes = len(content)
    handle = os.open(str(number), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=into)
    try:
        at = os.write(handle, content)
        while at < size_bytes:
            at += os.write(handle, content[at:])
    finally:
        os.close(handle)
    return Arrived(number, path, size_bytes, hashlib.sha256(content).hexdigest())


class Batch:
    """A tar on its way into a data set; to be closed by whoever opened it.

    `write` may be called from any thread, one call at a time.
    """

    def __init__(
        self,
        uploads: UploadsFolder,
        upload: Upload,
        *,
        place: Placing,
        require_room: Callable[[int], None],
        largest_bytes: int = LARGEST_BYTES,
    ) -> None:
        self.upload = upload
        #: Of the steps that are done.
        self.files = self.size_bytes = 0
        self._place = place
        self._require_room = require_room
        self._tar = TarStream(largest_bytes=largest_bytes)
        self._uploads = uploads
        self._held: AbstractContextManager[tuple[Upload, Path]] = uploads.held(upload.upload_id)
        _, data = self._held.__enter__()
        self._folder = data.parent
        (self._folder / _FILES).mkdir()
        self._into = os.open(self._folder / _FILES, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._step: list[Arrived] = []
        self._names: set[str] = set()
        self._step_bytes = 0

    def write(self, blocks: Sequence[bytes | memoryview], also: Hash | None = None) -> None:
        """Take more of the tar; does a step whenever enough has come.

        Raises `InvalidParameters` for what a batch does not take; then the step is dropped, those before it stay.
        """
        del also
        with out_of_space("a batch of files"):
            for file in self._tar.feed(b"".join(blocks)):
                if file.path in self._names:
                    raise InvalidParameters(f"the batch holds {file.path[:200]!r} twice; send one of them")
                self._names.add(file.path)
                self._step.append(store(file.content, file.path, number=len(self._step), into=self._into))
                self._step_bytes += len(file.content)
                if self._step_bytes >= STEP_BYTES or len(self._step) >= STEP_FILES:
                    self._finish_step()

    def checkpoint(self) -> None:
        """Nothing: a step is done when it is whole."""

    flush = require_mine = checkpoint

    def end(self) -> None:
        """That was all of the tar. Raises as `write` does, and where it ends too early or holds no file."""
        self._tar.end()
        if self._step:
            self._finish_step()
        if not self.files:
            raise InvalidParameters("the tar holds no file; send one that does")

    def close(self) -> None:
        """Let go; what was not done is removed."""
        os.close(self._into)
        try:
            self._uploads.end(self.upload, remember=False)
        finally:
            self._held.__exit__(None, None, None)

    def _finish_step(self) -> None:
        self._require_room(self._step_bytes)
        new = self._folder / f"{_LIST}.new"
        new.write_text(json.dumps(self._step))
        sync_disk(self._into)
        new.rename(self._folder / _LIST)
        sync_folder(self._folder)
        self._place(self.upload.dataset_uuid, self._folder / _FILES, self._step)
        (self._folder / _LIST).unlink()
        self.files += len(self._step)
        self.size_bytes += self._step_bytes
        self._step, self._names, self._step_bytes = [], set(), 0


def finish(uploads: UploadsFolder, upload_id: str, *, place: Placing) -> bool:
    """Finish or drop a batch whose process died; False where it lives. Raises what `place` raises."""
    try:
        with uploads.held(upload_id, seconds=0) as (upload, data):
            found = data.parent / _LIST
            if found.exists():
                place(
                    upload.dataset_uuid,
                    data.parent / _FILES,
                    [Arrived(*each) for each in json.loads(found.read_text())],
                )
            uploads.end(upload, remember=False)
            return True
    except NotFound:  # the data set was deleted; the batch's folder goes by itself when it expires
        return False
    except ScientistCloudError as failed:
        _LOG.info("batch %s stays for now: %s", upload_id, failed)
        return False


def require_plain(step: Sequence[Arrived]) -> None:
    """Raises `InvalidParameters` where a file of the step has the name of a folder of another."""
    folders: set[str] = set()
    for each in step:
        parent = each.path.rpartition("/")[0]
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    for each in step:
        if each.path in folders:
            raise InvalidParameters(
                f"the batch holds {each.path[:200]!r} as a file and as a folder; rename one of them"
            )
