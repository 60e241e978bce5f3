"""What programs ask of a portal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import httpx

from scientistcloud import __version__
from scientistcloud.client.answers import checked, unreachable
from scientistcloud.client.batching import SMALL_BYTES, in_batches, send_batch
from scientistcloud.client.downloads import Fetching, RemoteFile, addresses
from scientistcloud.client.files import LocalFile, collect
from scientistcloud.client.manifest import Manifest
from scientistcloud.client.parts import SMALLEST_BYTES, send_in_parts
from scientistcloud.client.sending import Sending
from scientistcloud.errors import NotFound, Transient, Unavailable

Record = dict[str, Any]
"""A record as JSON: names and values of ``docs/reference/http.md``."""

ENDED = ("done", "upload error", "unzip error", "conversion error", "cancelled")
"""The statuses of a data set that nothing works on."""

_LONGEST_LOOK_SECONDS = 1.0

# With files and their parts at once.
_MOST_CONNECTIONS = 64


class Client:
    """A portal, over HTTP. Threads may share it; use it as a context manager, or `close` it.

    Every call raises the error of `scientistcloud.errors` that the portal raised, `Unavailable` where the portal
    does not answer.

    Parameters
    ----------
    patience_seconds
        An upload or a `wait` lasts so long without a sign of the portal; then it gives up. Other calls do not wait.
    """

    def __init__(self, *, server: str, token: str, patience_seconds: float = 300) -> None:
        self.server = server.rstrip("/")
        self._patience_seconds = patience_seconds
        self._http = httpx.Client(
            base_url=self.server,
            headers={"Authorization": f"Bearer {token}", "User-Agent": f"scientistcloud/{__version__}"},
            # The answer to the last byte comes after an fsync of what may be gigabytes.
            timeout=httpx.Timeout(60, connect=10, read=180, pool=None),
            trust_env=not self.server.startswith(("http://127.0.0.1", "http://localhost")),
        )

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- data sets and jobs ----------------------------------------------------------------------

    def datasets(
        self, *, text: str | None = None, status: Sequence[str] = (), deleted: bool = False
    ) -> Iterator[Record]:
        """The caller's data sets, newest first; `deleted`: those that can be restored."""
        after: str | None = None
        while True:
            given = {"limit": 1000, "text": text, "status": list(status), "deleted": deleted, "after": after}
            page = self._get("/api/datasets", params={name: value for name, value in given.items() if value})
            yield from page["datasets"]
            if len(page["datasets"]) < 1000:
                return
            after = page["datasets"][-1]["uuid"]

    def dataset(self, dataset_uuid: str) -> Record:
        """The record of a data set. Raises `NotFound`."""
        return self._get(f"/api/datasets/{dataset_uuid}")

    def files(self, dataset_uuid: str) -> Iterator[Record]:
        """The source files of a data set, by path."""
        after: str | None = None
        while True:
            page = self._get(
                f"/api/datasets/{dataset_uuid}/files",
                params={"limit": 10_000} | ({"after": after} if after else {}),
            )
            yield from page["files"]
            if len(page["files"]) < 10_000:
                return
            after = page["files"][-1]["path"]

    def open_dataset(self, *, name: str, sensor: str = "auto", description: str = "") -> str:
        """A data set that is open for files; its uuid."""
        said = {"name": name, "sensor": sensor, "description": description}
        return str(self._post("/api/datasets", said)["uuid"])

    def close_dataset(self, dataset_uuid: str, *, convert: bool = True) -> Record:
        """All files have arrived; the conversion is queued. Can be repeated."""
        return self._post(f"/api/datasets/{dataset_uuid}/close", {"convert": convert})

    def reopen_dataset(self, dataset_uuid: str) -> Record:
        """Open a data set for more files."""
        return self._post(f"/api/datasets/{dataset_uuid}/open", {})

    def delete(self, dataset_uuid: str) -> Record:
        """Delete a data set; `restore` has it back for some days. Raises `NotFound`."""
        return self._asked("DELETE", f"/api/datasets/{dataset_uuid}")

    def restore(self, dataset_uuid: str) -> Record:
        """Have back what was deleted. Raises `NotFound`; `InvalidTransition` where its removal has begun."""
        return self._post(f"/api/datasets/{dataset_uuid}/restore", {})

    def describe(self, dataset_uuid: str, **said: Any) -> Record:
        """Write `name`, `description`, `tags` or `public`, those that are given."""
        return self._asked("PATCH", f"/api/datasets/{dataset_uuid}", json=said)

    def form_files(self, dataset_uuid: str) -> Iterator[Record]:
        """The files of the converted form with their SHA-256. Raises `NotFound`."""
        after: str | None = None
        while True:
            given = {"after": after} if after else {}
            page = self._get(f"/api/datasets/{dataset_uuid}/form", params=given)
            yield from page["files"]
            after = page["after"]
            if after is None:
                return

    def convert(
        self, dataset_uuid: str, *, request: str | None = None, sensor: str | None = None, **options: Any
    ) -> str:
        """Convert again; the `job_id`, the same for the same `request`.

        `options` overrule what would be chosen: `array`, `axes`, `spacing`, `fill`, `reduce`, `levels`, `chunk` …
        """
        given = {"request": request, "sensor": sensor, **options}
        answer = self._post(
            f"/api/datasets/{dataset_uuid}/convert",
            {name: value for name, value in given.items() if value is not None},
        )
        return str(answer["job_id"])

    def jobs(self, dataset_uuid: str) -> list[Record]:
        """The jobs of a data set, in the order of creation."""
        return cast("list[Record]", self._get(f"/api/datasets/{dataset_uuid}/jobs", params={"limit": 1000})["jobs"])

    def job(self, job_id: str) -> Record:
        """One job. Raises `NotFound`."""
        return self._get(f"/api/jobs/{job_id}")

    def wait(
        self, dataset_uuid: str, *, seconds: float | None = None, on_look: Callable[[Record], None] | None = None
    ) -> Record:
        """The record once nothing works on the data set any more; `on_look` is called with each one seen.

        Raises `Unavailable` after `seconds`, or when the portal was silent for too long.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        heard, pause = time.monotonic(), 0.05
        while True:
            try:
                dataset = self.dataset(dataset_uuid)
                heard = time.monotonic()
                if on_look is not None:
                    on_look(dataset)
                if dataset["status"] in ENDED:
                    return dataset
            except Transient:
                if time.monotonic() - heard > self._patience_seconds:
                    raise
            if deadline is not None and time.monotonic() > deadline:
                raise Unavailable(f"data set {dataset_uuid} is not ready after {seconds:g} s; its page shows why")
            time.sleep(pause)
            pause = min(_LONGEST_LOOK_SECONDS, 1.5 * pause)

    # -- imports ---------------------------------------------------------------------------------

    def begin_import(
        self,
        url: str,
        *,
        name: str | None = None,
        sensor: str = "auto",
        convert: bool = True,
        credential: Mapping[str, str] | None = None,
    ) -> Record:
        """Have the server fetch `url`; the record of the data set that waits for it.

        `credential`: what opens the source, such as `login` and `password`; the server keeps it sealed.
        """
        said: dict[str, Any] = {"url": url, "sensor": sensor, "convert": convert}
        if name is not None:
            said["name"] = name
        if credential:
            said["credential"] = dict(credential)
        return self._post("/api/imports", said)

    # -- uploads ---------------------------------------------------------------------------------

    def upload(
        self,
        paths: Sequence[Path],
        *,
        name: str | None = None,
        sensor: str = "auto",
        convert: bool = True,
        parallel: int = 4,
        parts: int = 1,
        manifests: Path | None = None,
        on_bytes: Callable[[int], None] = lambda _: None,
        on_trouble: Callable[[str], None] = lambda _: None,
    ) -> str:
        """Send files and folders as one data set, and close it; its uuid.

        `parts`: a large file goes over so many connections, in parts which the portal puts together.
        After a break it goes on where it was; with `manifests`, a folder, so does the same call of a later process.
        Raises `InvalidParameters` for paths that cannot be sent, `TooLarge`, `NoSpace`, `Unavailable`, `Cancelled`.
        """
        files = collect(paths)
        manifest = Manifest()
        if manifests is not None:
            manifest = Manifest.of(manifests, server=self.server, paths=paths, name=name, sensor=sensor)
        self._get("/api/datasets", params={"limit": 1})  # a portal that is not there is told at once
        sending = Sending(
            self._http,
            manifest,
            patience_seconds=self._patience_seconds,
            on_bytes=on_bytes,
            on_trouble=on_trouble,
        )
        if len(files) == 1 and convert and not paths[0].is_dir() and parts == 1:
            given = {"name": name, "sensor": sensor}
            dataset_uuid = sending.send(files[0], {key: text for key, text in given.items() if text}, in_one=False)
            if self._lost(dataset_uuid, files, manifest, on_trouble):
                manifest.clear()
                raise Unavailable(
                    f"{files[0].path} has another SHA-256 on the portal than here; delete data set {dataset_uuid} "
                    "and send it again"
                )
        else:
            name = name or (paths[0].resolve().name if len(paths) == 1 else f"{paths[0].name} and more")
            dataset_uuid = self._opened(manifest, name=name, sensor=sensor)
            if self.dataset(dataset_uuid)["closed_at"] is None:
                _send_all(sending, files, dataset_uuid, parallel=parallel, parts=parts)
                if lost := self._lost(dataset_uuid, files, manifest, on_trouble):
                    for file in lost:
                        manifest.again(file)
                    _send_all(sending, files, dataset_uuid, parallel=parallel, parts=1)
                    if lost := self._lost(dataset_uuid, files, manifest, on_trouble):
                        raise Unavailable(
                            f"{lost[0].path} has another SHA-256 on the portal than here, twice; is the disk sound?"
                        )
                self._repeated(lambda: self.close_dataset(dataset_uuid, convert=convert))
        manifest.clear()
        return dataset_uuid

    def _lost(
        self, dataset_uuid: str, files: Sequence[LocalFile], manifest: Manifest, on_trouble: Callable[[str], None]
    ) -> list[LocalFile]:
        """The files that did not arrive as they were sent: their SHA-256 there and here differ.

        One that the portal computes behind the upload, after a restart, is waited for a while.
        """
        until = time.monotonic() + min(self._patience_seconds, 30 + sum(f.size_bytes for f in files) / 50e6)
        pause = 0.1
        while True:
            there = self._digests(dataset_uuid)
            pending = [file for file in files if file.name in there and there[file.name] is None]
            if not pending or time.monotonic() > until:
                break
            time.sleep(pause)
            pause = min(2.0, 2 * pause)
        if pending:
            on_trouble(f"the portal still computes the SHA-256 of {len(pending)} files; they were not compared")
        if len(files) == 1 and files[0].name not in there and manifest.dataset_uuid is None:
            return []  # it closed its data set, and is an archive that has been unpacked meanwhile
        return [file for file in files if file not in pending and there.get(file.name) != manifest.sha256(file)]

    def _digests(self, dataset_uuid: str) -> dict[str, str | None]:
        """The SHA-256 of each source file that the portal has."""
        there: dict[str, str | None] = {}
        self._repeated(lambda: there.update((row["path"], row["sha256"]) for row in self.files(dataset_uuid)))
        return there

    def _opened(self, manifest: Manifest, *, name: str, sensor: str) -> str:
        """The data set that the manifest knows, or a new one."""
        if manifest.dataset_uuid is not None:
            try:
                return str(self.dataset(manifest.dataset_uuid)["uuid"])
            except NotFound:
                manifest.clear()
        dataset_uuid = self.open_dataset(name=name, sensor=sensor)
        manifest.opened(dataset_uuid)
        return dataset_uuid

    def _repeated(self, call: Callable[[], object]) -> None:
        """Call until it succeeds, or patience ends."""
        began, pause = time.monotonic(), 0.25
        while True:
            try:
                call()
                return
            except Transient:
                if time.monotonic() - began > self._patience_seconds:
                    raise
                time.sleep(pause)
                pause = min(20.0, 2 * pause)

    # -- downloads -------------------------------------------------------------------------------

    def download(
        self,
        dataset_uuid: str,
        to: Path,
        *,
        what: str = "source",
        as_zip: bool = False,
        parallel: int = 4,
        on_total: Callable[[int], None] = lambda _: None,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Fetch the files as they came (`what`: ``source``), or the converted form (``converted``).

        `to` is a folder, or with `as_zip` the zip. Each file appears when it is whole and its SHA-256 holds; what
        is there already is left alone, what a break left is gone on with. Returns how many files were asked for.
        Raises `NotFound`, `NoSpace`, `Unavailable`.
        """
        fetching = Fetching(self._http, patience_seconds=self._patience_seconds, on_bytes=on_bytes)
        if as_zip:
            fetching.fetch(RemoteFile(f"/data/{dataset_uuid}/{what}.zip", to.name, None, None), to)
            return 1
        if what == "source":
            files = list(addresses(f"/data/{dataset_uuid}/source", self.files(dataset_uuid)))
        else:
            files = list(addresses(f"/data/{dataset_uuid}", self.form_files(dataset_uuid)))
        on_total(sum(file.size_bytes or 0 for file in files))
        fetching.fetch_all(files, to, parallel=parallel)
        return len(files)

    # -- requests --------------------------------------------------------------------------------

    def _get(self, url: str, *, params: Mapping[str, Any] | None = None) -> Record:
        return self._asked("GET", url, params=params)

    def _post(self, url: str, said: Mapping[str, Any]) -> Record:
        return self._asked("POST", url, json=said)

    def _asked(self, method: str, url: str, **how: Any) -> Record:
        try:
            answer = self._http.request(method, url, **how)
        except httpx.TransportError as failed:
            raise unreachable(self.server, failed) from failed
        try:
            return cast("Record", checked(answer).json())
        except ValueError as failed:
            raise Unavailable(f"{self.server} answered with something that is no JSON; is it a portal?") from failed


def _send_all(
    sending: Sending, files: Sequence[LocalFile], dataset_uuid: str, *, parallel: int, parts: int
) -> None:
    """Send what is not there yet, some at a time; the first error ends all."""
    waiting = [file for file in files if not sending.manifest.is_done(file)]
    for file in files:
        if sending.manifest.is_done(file):
            sending.on_bytes(file.size_bytes)
    small = [file for file in waiting if file.size_bytes <= SMALL_BYTES]
    small = small if len(small) > 1 else []
    with ThreadPoolExecutor(max_workers=max(1, parallel), thread_name_prefix="upload") as threads:
        futures: list[Future[object]] = [
            threads.submit(send_batch, sending, batch, dataset_uuid) for batch in in_batches(small)
        ]
        alone = [file for file in waiting if not small or file.size_bytes > SMALL_BYTES]
        number = min(parts, max(2, _MOST_CONNECTIONS // parallel))
        for file in alone:
            if parts > 1 and file.size_bytes >= 2 * SMALLEST_BYTES:
                futures.append(threads.submit(send_in_parts, sending, file, dataset_uuid, number=number))
            else:
                futures.append(threads.submit(sending.send, file, {"dataset": dataset_uuid}, in_one=True))
        try:
            for future in futures:
                future.result()
        except BaseException:
            sending.stop()
            for future in futures:
                future.cancel()
            raise
