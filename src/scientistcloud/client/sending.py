"""One file to the portal by tus: asked where to go on before anything, one long PATCH, again after each break."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus

import httpx

from scientistcloud.client.answers import checked, unreachable
from scientistcloud.client.files import LocalFile
from scientistcloud.client.manifest import Manifest
from scientistcloud.errors import Cancelled, NoSpace, ScientistCloudError, Transient, Unavailable, UnreadableSource
from scientistcloud.uploads.metadata import encode

BLOCK_BYTES = 4 * 2**20
_VERSION = {"Tus-Resumable": "1.0.0"}
_BYTES = {"Content-Type": "application/offset+octet-stream"}
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 20.0
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)


class Sending:
    """Sends files on one HTTP client; threads may share it.

    Parameters
    ----------
    patience_seconds
        So long without a byte arriving, and it gives up.
    on_bytes
        Called with how many more bytes were sent (fewer, where some have to be sent again).
    on_trouble
        Called with what went wrong before each pause.
    """

    def __init__(
        self,
        http: httpx.Client,
        manifest: Manifest,
        *,
        patience_seconds: float,
        on_bytes: Callable[[int], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self.server = str(http.base_url).rstrip("/")
        self.manifest = manifest
        self.patience_seconds = patience_seconds
        self.on_bytes = on_bytes
        self._on_trouble = on_trouble
        self._http = http
        self._stop = threading.Event()

    def stop(self) -> None:
        """Let every sending thread end with `Cancelled`; the portal keeps what came."""
        self._stop.set()

    def send(self, file: LocalFile, metadata: Mapping[str, str] | None, *, in_one: bool) -> str:
        """Send the whole file; the uuid of its data set. Goes on where the manifest knows a beginning.

        Without `metadata` it is a part of a file, and belongs to no data set yet.
        `in_one`: a small file goes along with the request that opens its upload; a lost answer then means that
        it is sent again, which is harmless in a data set that is open for files.
        """
        return _OneFile(self, file, metadata, in_one=in_one).run()

    def request(
        self, method: str, url: str, headers: Mapping[str, str], content: Iterator[bytes] | None = None
    ) -> httpx.Response:
        self.require_going()
        return self._http.request(method, url, headers={**_VERSION, **headers}, content=content)

    def pause(self, failures: int, trouble: ScientistCloudError | None) -> None:
        """Wait longer each time, and not all at once: whoever lost the portal comes back when it does."""
        if trouble is not None:
            self._on_trouble(str(trouble))
        longest = min(_LONGEST_PAUSE_SECONDS, _PAUSE_SECONDS * 2**failures)
        self._stop.wait(longest * random.uniform(0.5, 1))  # noqa: S311  # jitter, no secret
        self.require_going()

    def require_going(self) -> None:
        if self._stop.is_set():
            raise Cancelled("the upload was interrupted; the same command goes on where it was")


class _OneFile:
    """The sending of one file."""

    def __init__(
        self, sending: Sending, file: LocalFile, metadata: Mapping[str, str] | None, *, in_one: bool
    ) -> None:
        self._sending = sending
        self._file = file
        self._said = {"Upload-Concat": "partial"}
        if metadata is not None:
            said = encode({"filename": file.path.name, "relativePath": file.name, **metadata})
            self._said = {"Upload-Metadata": said}
        self._in_one = in_one and file.size_bytes <= BLOCK_BYTES
        self._location = sending.manifest.location(file)
        #: What the portal says is there, and what has been shown as sent, which runs ahead of it.
        self._arrived = self._shown = 0
        self._dataset_uuid = ""
        #: Of the first bytes of the file, as they were read here.
        self._digest, self._hashed = hashlib.sha256(), 0

    def run(self) -> str:
        failures, last_progress = 0, time.monotonic()
        ask = self._location is not None
        while True:
            before = self._arrived
            trouble: ScientistCloudError | None = None
            try:
                if self._step(ask=ask):
                    self._hash_to(self._file.size_bytes)
                    self._sending.manifest.finished(self._file, self._digest.hexdigest())
                    return self._dataset_uuid
            except httpx.TransportError as failed:
                trouble = unreachable(self._sending.server, failed)
            except Transient as failed:
                if isinstance(failed, NoSpace) and self._location is None:
                    raise  # nothing was begun, and waiting makes no room
                trouble = failed
            ask = True
            if self._arrived > before:
                failures, last_progress = 0, time.monotonic()
                continue
            if time.monotonic() - last_progress > self._sending.patience_seconds:
                raise trouble or Unavailable(f"{self._file.path} cannot be sent: the portal keeps losing it")
            self._sending.pause(failures, trouble)
            failures += 1

    def _step(self, *, ask: bool) -> bool:
        """Open the upload, or ask where it stands, and go on with it; whether the whole file has arrived."""
        if self._location is None:
            return self._open()
        if ask:
            answer = self._sending.request("HEAD", self._location, {})
            if answer.status_code in _GONE:
                self._location = None
                return self._open()
            checked(answer)
            self._dataset_uuid = answer.headers.get("Dataset-UUID", "")
            if self._has_arrived(int(answer.headers["Upload-Offset"])):
                return True
        left = str(self._file.size_bytes - self._arrived)
        headers = {**_BYTES, "Upload-Offset": str(self._arrived), "Content-Length": left}
        answer = self._sending.request("PATCH", self._location, headers, self._blocks())
        if answer.status_code in (*_GONE, HTTPStatus.CONFLICT):
            return False  # the question for its offset will tell
        return self._has_arrived(int(checked(answer).headers["Upload-Offset"]))

    def _open(self) -> bool:
        self._has_arrived(0)
        headers = {"Upload-Length": str(self._file.size_bytes), **self._said}
        content = None
        if self._in_one and self._file.size_bytes:
            headers |= {**_BYTES, "Content-Length": str(self._file.size_bytes)}
            content = self._blocks()
        answer = checked(self._sending.request("POST", "/api/uploads/", headers, content))
        self._location = str(answer.url.join(answer.headers["Location"]))
        self._dataset_uuid = answer.headers.get("Dataset-UUID", "")
        if self._has_arrived(int(answer.headers.get("Upload-Offset", "0"))):
            return True
        self._sending.manifest.began(self._file, self._location)
        return self._step(ask=False)

    def _has_arrived(self, size_bytes: int) -> bool:
        self._arrived = size_bytes
        self._show(size_bytes)
        return size_bytes == self._file.size_bytes

    def _show(self, size_bytes: int) -> None:
        self._sending.on_bytes(size_bytes - self._shown)
        self._shown = size_bytes

    def _blocks(self) -> Iterator[bytes]:
        """The file from where it goes on."""
        at = self._arrived
        self._hash_to(at)
        with self._file.path.open("rb") as file:
            file.seek(self._file.start_bytes + at)
            while at < self._file.size_bytes:
                self._sending.require_going()
                block = file.read(min(BLOCK_BYTES, self._file.size_bytes - at))
                if not block:
                    raise UnreadableSource(f"{self._file.path} became shorter while it was sent; send it again")
                self._digest.update(block)
                self._hashed += len(block)
                yield block
                at += len(block)
                self._show(at)

    def _hash_to(self, at: int) -> None:
        """Have the digest of the first `at` bytes: what an earlier command sent is read again, here."""
        if self._hashed > at:
            self._digest, self._hashed = hashlib.sha256(), 0
        with self._file.path.open("rb") as file:
            file.seek(self._file.start_bytes + self._hashed)
            while self._hashed < at:
                self._sending.require_going()
                block = file.read(min(BLOCK_BYTES, at - self._hashed))
                if not block:
                    raise UnreadableSource(f"{self._file.path} became shorter while it was sent; send it again")
                self._digest.update(block)
                self._hashed += len(block)
