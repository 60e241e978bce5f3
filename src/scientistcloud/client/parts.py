"""One large file over several connections: its parts as uploads of their own, put together by the portal.

For a long line that loses packets now and then, where one connection slows down at each loss. See
docs/decisions/0193.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx

from scientistcloud.client.answers import checked, unreachable
from scientistcloud.client.files import LocalFile
from scientistcloud.client.sending import BLOCK_BYTES, Sending
from scientistcloud.errors import InvalidParameters, NotFound, ScientistCloudError, Transient, UnreadableSource
from scientistcloud.uploads.metadata import encode

SMALLEST_BYTES = 16 * 2**20
"""A part is no smaller."""


def parts_of(file: LocalFile, number: int) -> list[LocalFile]:
    """The file in at most so many parts; the manifest knows them by a name that no file can have."""
    size_bytes = max(SMALLEST_BYTES, -(-file.size_bytes // number))
    return [
        replace(
            file,
            name=f"{file.name}\0{start}",
            start_bytes=start,
            size_bytes=min(size_bytes, file.size_bytes - start),
        )
        for start in range(0, file.size_bytes, size_bytes)
    ]


def send_in_parts(sending: Sending, file: LocalFile, dataset_uuid: str, *, number: int) -> None:
    """Send the file into the open data set in `number` parts at once; goes on where the manifest says.

    Raises as `Sending.send`.
    """
    parts = parts_of(file, number)
    if sending.manifest.location(_whole(file)) is None:
        _send_parts(sending, parts)
    _put_together(sending, file, parts, dataset_uuid)
    sending.manifest.finished(file, _sha256(sending, file))


def _send_parts(sending: Sending, parts: Sequence[LocalFile]) -> None:
    waiting = [part for part in parts if not sending.manifest.is_done(part)]
    sending.on_bytes(sum(part.size_bytes for part in parts) - sum(part.size_bytes for part in waiting))
    with ThreadPoolExecutor(max_workers=len(parts), thread_name_prefix="part") as threads:
        sent = [threads.submit(sending.send, part, None, in_one=False) for part in waiting]
        try:
            for each in sent:
                each.result()
        except BaseException:
            sending.stop()
            raise


def _put_together(sending: Sending, file: LocalFile, parts: Sequence[LocalFile], dataset_uuid: str) -> None:
    """Have the portal make the file of its parts, and wait for that."""
    manifest = sending.manifest
    failures, last_answer = 0, time.monotonic()
    while True:
        trouble: ScientistCloudError | None = None
        try:
            if (location := manifest.location(_whole(file))) is None:
                location = _ask_for_whole(sending, file, parts, dataset_uuid)
            answer = sending.request("HEAD", location, {})
            if answer.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                raise NotFound(f"the portal lost the parts of {file.path}; send it again")
            if checked(answer).headers.get("Upload-Offset") == str(file.size_bytes):
                return
            failures, last_answer = min(failures, 3), time.monotonic()  # it is still at it
        except httpx.TransportError as failed:
            trouble = unreachable(sending.server, failed)
        except Transient as failed:
            trouble = failed
        except (InvalidParameters, NotFound):
            # Put together already, where an answer was lost, or expired: the comparison of digests will tell.
            for part in (*parts, _whole(file)):
                manifest.again(part)
            return
        if trouble is not None and time.monotonic() - last_answer > sending.patience_seconds:
            raise trouble
        sending.pause(failures, trouble)
        failures += 1


def _ask_for_whole(sending: Sending, file: LocalFile, parts: Sequence[LocalFile], dataset_uuid: str) -> str:
    addresses = [urlsplit(sending.manifest.location(part) or "").path for part in parts]
    metadata = {"filename": file.path.name, "relativePath": file.name, "dataset": dataset_uuid}
    headers = {"Upload-Concat": f"final;{' '.join(addresses)}", "Upload-Metadata": encode(metadata)}
    answer = checked(sending.request("POST", "/api/uploads/", headers))
    location = str(answer.url.join(answer.headers["Location"]))
    sending.manifest.began(_whole(file), location)
    return location


def _whole(file: LocalFile) -> LocalFile:
    return replace(file, name=f"{file.name}\0")


def _sha256(sending: Sending, file: LocalFile) -> str:
    digest = hashlib.sha256()
    with file.path.open("rb") as source:
        left = file.size_bytes
        while left:
            sending.require_going()
            block = source.read(min(BLOCK_BYTES, left))
            if not block:
                raise UnreadableSource(f"{file.path} became shorter while it was sent; send it again")
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()
