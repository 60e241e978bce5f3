"""One file from several uploads that were sent at once: the concatenation of tus."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from scientistcloud.errors import InvalidParameters, InvalidTransition, NotFound, Unavailable
from scientistcloud.uploads.folder import UploadsFolder
from scientistcloud.uploads.record import Upload
from scientistcloud.uploads.session import Writing

FINAL = "final;"
_BLOCK_BYTES = 4 * 2**20
_CHECKPOINT_BYTES = 64 * 2**20


class MissingPart(NotFound):
    """A part is gone, so the whole cannot be put together."""


def parts_named(uploads: UploadsFolder, concat: str, *, user: str) -> list[Upload]:
    """The parts that the header ``Upload-Concat: final;…`` names, in its order.

    Raises `InvalidParameters` for what is no part of `user`'s, `InvalidTransition` for one that lacks bytes.
    """
    addresses = concat.removeprefix(FINAL).split()
    if not concat.startswith(FINAL) or not addresses:
        raise InvalidParameters(
            f"Upload-Concat is {concat[:60]!r}; send `partial`, or `final;` and parts' addresses"
        )
    parts = []
    for address in addresses:
        part = uploads.get(urlsplit(address).path.rpartition("/")[2])
        if part is None or part.user != user or not part.is_part:
            raise InvalidParameters(f"{address[:200]!r} is no part of yours; send it again, then put them together")
        if not part.complete:
            raise InvalidTransition(
                f"the part {address[:200]!r} has {part.offset_bytes} of {part.length_bytes} bytes; send the rest"
            )
        parts.append(part)
    return parts


def put_together(uploads: UploadsFolder, upload: Upload, *, stopped: Callable[[], bool]) -> Upload:
    """Write the bytes of `upload.parts`, one after the other, into the upload; the upload as it is then.

    What a call before this one made durable is not written again. Raises `MissingPart`; `Unavailable` once
    `stopped`; `Stale` where another process does the same, `NoSpace`.
    """
    writing = uploads.write(upload.upload_id)
    try:
        start = 0
        for part_id in upload.parts:
            part = uploads.get(part_id)
            if part is None or part.length_bytes is None:
                raise MissingPart(f"a part of {upload.path!r} is gone; send the file again")
            done = writing.upload.offset_bytes
            if done < start + part.length_bytes:
                _copy(uploads, part, writing, skip_bytes=max(0, done - start), stopped=stopped)
            start += part.length_bytes
        return writing.checkpoint()
    finally:
        writing.close()


def _copy(
    uploads: UploadsFolder, part: Upload, writing: Writing, *, skip_bytes: int, stopped: Callable[[], bool]
) -> None:
    try:
        file = uploads.data(part.upload_id).open("rb")
    except FileNotFoundError:
        raise MissingPart(f"a part of {writing.upload.path!r} is gone; send the file again") from None
    with file:
        file.seek(skip_bytes)
        since = 0
        while block := file.read(_BLOCK_BYTES):
            if stopped():
                raise Unavailable("the portal stops; its next start puts the parts together")
            writing.write([block])
            since += len(block)
            if since >= _CHECKPOINT_BYTES:
                writing.checkpoint()
                since = 0
    writing.checkpoint()
