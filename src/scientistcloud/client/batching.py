"""Small files in tars: thousands of them for one request, sent again as a whole where it broke."""

from __future__ import annotations

import hashlib
import tarfile
import time
from collections.abc import Iterator, Sequence

import httpx

from scientistcloud.client.answers import checked, unreachable
from scientistcloud.client.files import LocalFile
from scientistcloud.client.sending import Sending
from scientistcloud.errors import NoSpace, ScientistCloudError, Transient, UnreadableSource

SMALL_BYTES = 2**20
"""Files up to this size go into batches, as the portal takes them."""
_BATCH_BYTES, _BATCH_FILES = 32 * 2**20, 4096
_BLOCK = 512
_END = bytes(2 * _BLOCK)


def in_batches(files: Sequence[LocalFile]) -> Iterator[list[LocalFile]]:
    """`files`, some thousands or some megabytes at a time, in their order."""
    batch: list[LocalFile] = []
    size_bytes = 0
    for file in files:
        if batch and (len(batch) >= _BATCH_FILES or size_bytes + file.size_bytes > _BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(file)
        size_bytes += file.size_bytes
    if batch:
        yield batch


def send_batch(sending: Sending, files: Sequence[LocalFile], dataset_uuid: str) -> None:
    """Send the files into the open data set, whole, however often the line breaks; then the manifest knows them.

    Raises as `Sending.send`.
    """
    failures, began = 0, time.monotonic()
    while True:
        tar = _Tar(sending, files)
        try:
            answer = sending.request(
                "PUT",
                f"/api/uploads/batch?dataset={dataset_uuid}",
                {"Content-Type": "application/x-tar", "Content-Length": str(tar.size_bytes)},
                tar.blocks(),
            )
            checked(answer)
            sending.manifest.finished_all(list(zip(files, tar.digests, strict=True)))
            return
        except httpx.TransportError as failed:
            trouble: ScientistCloudError = unreachable(sending.server, failed)
        except Transient as failed:
            if isinstance(failed, NoSpace):
                raise
            trouble = failed
        sending.on_bytes(-tar.shown_bytes)
        if time.monotonic() - began > sending.patience_seconds:
            raise trouble
        sending.pause(failures, trouble)
        failures += 1


class _Tar:
    """The tar of some files, written while it is sent."""

    def __init__(self, sending: Sending, files: Sequence[LocalFile]) -> None:
        self._sending = sending
        self._files = files
        self._heads = [_head(file) for file in files]
        self.size_bytes = sum(map(len, self._heads)) + sum(_padded(file.size_bytes) for file in files) + len(_END)
        self.shown_bytes = 0
        #: SHA-256 of what was sent, in the order of the files.
        self.digests: list[str] = []

    def blocks(self) -> Iterator[bytes]:
        gathered: list[bytes] = []
        gathered_bytes = shown = 0
        for file, head in zip(self._files, self._heads, strict=True):
            content = file.path.read_bytes()
            if len(content) != file.size_bytes:
                raise UnreadableSource(f"{file.path} changed while it was sent; send it again")
            self.digests.append(hashlib.sha256(content).hexdigest())
            gathered += [head, content, bytes(_padded(len(content)) - len(content))]
            gathered_bytes += len(head) + len(content)
            shown += len(content)
            if gathered_bytes >= SMALL_BYTES:
                self._sending.require_going()
                yield b"".join(gathered)
                self._show(shown)
                gathered, gathered_bytes, shown = [], 0, 0
        yield b"".join((*gathered, _END))
        self._show(shown)

    def _show(self, size_bytes: int) -> None:
        self.shown_bytes += size_bytes
        self._sending.on_bytes(size_bytes)


def _head(file: LocalFile) -> bytes:
    info = tarfile.TarInfo(file.name)
    info.size = file.size_bytes
    return info.tobuf(tarfile.PAX_FORMAT)


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // _BLOCK) * _BLOCK
