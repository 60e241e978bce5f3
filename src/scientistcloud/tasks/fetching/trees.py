"""Folders of other servers, by rclone: SFTP, WebDAV, Google Drive.

What is there is listed first, so that names and sizes are refused before anything comes. It resumes file by file.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from scientistcloud.errors import TooLarge, Unavailable, UnreadableSource, UnsafeSource
from scientistcloud.tasks.fetching.files import Say
from scientistcloud.tasks.fetching.rclone import Failed, Rclone, obscured, running
from scientistcloud.tasks.fetching.room import Room
from scientistcloud.uploads.addresses import Guard
from scientistcloud.uploads.remotes import OBSCURED, known_hosts_line, path_of, rclone_options
from scientistcloud.uploads.tree import Written

_LOOK_SECONDS = 0.25
_HASHED_BYTES = 4 << 20
# A file on its way in.
_PARTIAL = re.compile(r"\.[0-9a-f]{8}\.partial$")
_LOOK_UPS = {"recurse": True, "filesOnly": True, "noModTime": True, "noMimeType": True}
_FOR_EVER = (
    "unable to authenticate", "handshake failed", "key mismatch", "key is unknown", "knownhosts", "not found",
    "401 ", "403 ", "permission denied", "couldn't find", "invalid_grant", "unauthorized", "illegal base64",
)  # fmt: skip


class Fetching(Protocol):
    """What `tasks.importing` has for each kind of source."""

    shown: str
    secret: Mapping[str, str]
    guard: Guard
    files: Path
    room: Room
    here: dict[str, Written]

    def say(self, total_bytes: int | None, before_bytes: int = 0) -> Say: ...
    def add(self, file: Written) -> None: ...
    def require_names(self, paths: Sequence[str]) -> None: ...


def fetch_tree(fetching: Fetching, folder: Path) -> None:
    """All files at the source's path, or the one file that it is; `folder` is the attempt's."""
    with running(folder, fetching.guard) as rclone:
        try:
            _fetch(rclone, fetching, folder)
        except Failed as failed:
            raise _told(failed, rclone, fetching.shown) from failed


def _fetch(rclone: Rclone, fetching: Fetching, folder: Path) -> None:
    say = fetching.say(None)
    say(0, None, "connecting")
    remote = _remote(rclone, fetching, folder)
    path = path_of(fetching.shown)
    item = rclone.call("operations/stat", fs=remote, remote=path)["item"] if path else {"IsDir": True}
    if item is None:
        raise UnreadableSource(f"there is nothing at {fetching.shown}; check the address")
    if item["IsDir"]:
        say(0, None, "listing")
        remote |= {"_root": f"/{path}" if remote["type"] == "sftp" else path}
        found = rclone.call("operations/list", fs=remote, remote="", opt=_LOOK_UPS)["list"]
    else:
        found = [{"Path": item["Name"], "Size": item["Size"]}]
    sizes = {str(each["Path"]): int(each["Size"]) for each in found}
    fetching.require_names(list(sizes))
    for file in fetching.files.rglob("*"):
        if _PARTIAL.search(file.name):
            file.unlink()
    total = sum(size for size in sizes.values() if size > 0)
    fetching.room.expect(total, name=fetching.shown, file_bytes=max(sizes.values(), default=0))
    quota = {} if fetching.room.limit_bytes is None else {"MaxTransfer": f"{fetching.room.limit_bytes}B"}
    how = {"_async": True, "_group": "import", "_config": {"CutoffMode": "HARD", "MultiThreadStreams": 0, **quota}}
    target = str(fetching.files)
    if item["IsDir"]:
        job = rclone.call("sync/copy", srcFs=remote, dstFs=target, **how)
    else:
        job = rclone.call(
            "operations/copyfile", srcFs=remote, srcRemote=path, dstFs=target, dstRemote=item["Name"], **how
        )
    _follow(rclone, int(job["jobid"]), fetching, total)
    _record(fetching, sizes)


def _remote(rclone: Rclone, fetching: Fetching, folder: Path) -> dict[str, Any]:
    known_hosts = folder / "rclone" / "known_hosts"
    if "host_key" in fetching.secret:
        known_hosts.write_text(known_hosts_line(fetching.shown, fetching.secret))
    options = rclone_options(fetching.shown, fetching.secret, known_hosts=str(known_hosts), proxy=rclone.proxy.url)
    return obscured(rclone, options, OBSCURED) | ({"_root": "/"} if options["type"] == "sftp" else {})


def _follow(rclone: Rclone, job: int, fetching: Fetching, total: int) -> None:
    """Until the copying has ended, its progress."""
    say = fetching.say(total)
    while True:
        status = rclone.call("job/status", jobid=job)
        stats = rclone.call("core/stats", group="import")
        done = int(stats.get("bytes") or 0)
        under_way = [str(each.get("name")) for each in stats.get("transferring") or []]
        say(min(done, total), total, f"fetching {under_way[0]}" if under_way else "fetching")
        fetching.room.require_on_disk(0, name=fetching.shown)
        if status["finished"]:
            if not status["success"]:
                raise Failed(str(status["error"]))
            return
        time.sleep(_LOOK_SECONDS)


def _record(fetching: Fetching, sizes: Mapping[str, int]) -> None:
    """What came, as it lies here: with its sum, and of the size that it had there."""
    total = sum(size for size in sizes.values() if size > 0)
    say, done = fetching.say(total), 0
    for path, size in sizes.items():
        file = fetching.files / path
        if file.is_symlink() or not file.is_file():
            raise Unavailable(f"{path!r} did not come from {fetching.shown}; it is tried again")
        if size >= 0 and file.stat().st_size != size:
            raise Unavailable(f"{path!r} changed at {fetching.shown} while it was fetched; it is tried again")
        if path in fetching.here:
            continue
        digest = hashlib.sha256()
        with file.open("rb", buffering=0) as bytes_here:
            while block := bytes_here.read(_HASHED_BYTES):
                digest.update(block)
                done += len(block)
                say(min(done, total), total, f"checking {path}")
        fetching.add(Written(path=path, size_bytes=file.stat().st_size, sha256=digest.hexdigest()))


def _told(failed: Failed, rclone: Rclone, shown: str) -> Exception:
    """rclone's words as one of our errors."""
    if rclone.proxy.refused:
        first = rclone.proxy.refused[0]
        return UnsafeSource(f"{shown} leads elsewhere: {first}") if isinstance(first, UnsafeSource) else first
    said = " ".join(str(failed).split())[:300]
    if "max transfer limit" in said:
        return TooLarge(f"{shown} is larger than what is left for it; delete data sets, or ask the operator")
    if any(word in said.lower() for word in _FOR_EVER):
        return UnreadableSource(f"{shown} cannot be read: {said}")
    return Unavailable(f"{shown} cannot be fetched now: {said}; it is tried again later")
