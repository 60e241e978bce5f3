"""The job type `dataset_import`: files from elsewhere become the sources of the data set.

What has come lies in `Work.keep`, which the next attempt goes on with: whole files on a list, the one under way
with a checkpoint. All of it takes its place at once, when everything is here.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from urllib.parse import SplitResult, unquote, urlsplit

from scientistcloud.datasets.lifecycle import IMPORT
from scientistcloud.errors import InvalidParameters, Unavailable, UnreadableSource, UnsafeSource
from scientistcloud.records import Json
from scientistcloud.tasks.contract import Arrival, Outcome, Work
from scientistcloud.tasks.fetching import s3, web
from scientistcloud.tasks.fetching.files import Say, fetch
from scientistcloud.tasks.fetching.part import Part, alone
from scientistcloud.tasks.fetching.room import Room
from scientistcloud.tasks.fetching.trees import fetch_tree
from scientistcloud.uploads.addresses import Guard
from scientistcloud.uploads.archives import is_archive
from scientistcloud.uploads.tree import Names, Written

FILES, LISTING = "files", "listing"
_DEPTH = 64
_MOST_FILES = 1_000_000
_NAMED = 10


class ImportTask:
    """`dataset_import`; parameters: `remote` (see `uploads.remotes`), `limit_bytes`."""

    job_type = IMPORT

    def run(self, work: Work) -> Outcome:
        """Brings the files of the remote source."""
        fetchers: dict[str, Callable[[Fetching], None]] = {
            "web": _from_web,
            "s3": _from_s3,
            **dict.fromkeys(("sftp", "webdav", "gdrive"), partial(fetch_tree, folder=work.output)),
        }
        remote: Json = work.parameters.get("remote") or {}
        fetcher = fetchers.get(str(remote.get("kind")))
        if fetcher is None:
            raise InvalidParameters(f"an import from {remote.get('kind')!r} is not known here; begin it again")
        work.keep.mkdir(parents=True, exist_ok=True)
        with alone(work.keep):
            fetching = Fetching(work, remote)
            fetcher(fetching)
            return fetching.outcome()


class Fetching:
    """What an import has and needs: the room, the guard, the files that are here."""

    def __init__(self, work: Work, remote: Json) -> None:
        self.remote = remote
        self.shown = str(remote["url"])
        self.secret: Mapping[str, str] = work.secret or {}
        self.guard = Guard(private=bool(work.allowed.get("import_private_addresses")))
        self.keep = work.keep
        self.files = work.keep / FILES
        self.files.mkdir(exist_ok=True)
        self.room = Room.of(work)
        self.here = {file.path: file for file in self._listed()}
        self.room.taken_bytes = sum(file.size_bytes for file in self.here.values())
        self._report = work.report

    def say(self, total_bytes: int | None, before_bytes: int = 0) -> Say:
        """Progress of one file, when `before_bytes` of others of `total_bytes` in all have come."""

        def say(here: int, length: int | None, what: str) -> None:
            total = total_bytes if total_bytes is not None else length
            done = before_bytes + here
            of = f" of {_size(total)}" if total is not None else ""
            self._report(min(done / total, 0.99) if total else 0.0, f"{what}, {_size(done)}{of}")

        return say

    def add(self, file: Written, part: Part | None = None) -> None:
        """`file` is here: durably on the list, then its checkpoint goes."""
        with (self.keep / LISTING).open("a") as listing:
            listing.write(json.dumps(asdict(file)) + "\n")
            listing.flush()
            os.fsync(listing.fileno())
        self.here[file.path] = file
        if part is not None:
            part.forget()

    def require_names(self, paths: Sequence[str]) -> None:
        """Refuse names that no folder of ours can hold, before anything is fetched."""
        if len(paths) > _MOST_FILES:
            raise UnreadableSource(f"{self.shown} has more than {_MOST_FILES} files; import parts of it")
        names = Names(depth=_DEPTH)
        wrong = [said for path in paths if (said := names.check(path)) is not None]
        if wrong:
            more = " and more" if len(wrong) > _NAMED else ""
            raise UnsafeSource(
                f"{self.shown} was not fetched: {'; '.join(wrong[:_NAMED])}{more}; rename them there"
            )

    def outcome(self) -> Outcome:
        """All are here."""
        if not self.here:
            raise UnreadableSource(f"there is no file at {self.shown}; check the address")
        with (self.keep / "brought").open("w") as brought:
            for file in self.here.values():
                brought.write(json.dumps(asdict(file)) + "\n")
        only = next(iter(self.here)) if len(self.here) == 1 else None
        return Outcome(
            result={
                "url": self.shown,
                "files": len(self.here),
                "size_bytes": sum(file.size_bytes for file in self.here.values()),
            },
            arrival=Arrival(
                folder=FILES,
                at="",
                listing="brought",
                archive=only if only is not None and is_archive(only, self.files / only) else None,
                kept=True,
            ),
        )

    def _listed(self) -> Iterator[Written]:
        try:
            lines = (self.keep / LISTING).read_text().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                file = Written(**json.loads(line))
            except (ValueError, TypeError):
                return  # the last one, cut off by a crash
            if (self.files / file.path).is_file():
                yield file


# -- one file over HTTP --------------------------------------------------------------------------


def _from_web(fetching: Fetching) -> None:
    if fetching.here:
        return  # an earlier attempt got so far
    query = fetching.secret.get("query")
    url = fetching.shown + (f"?{query}" if query else "")
    open_ = partial(_open_web, url, fetching)
    with Part(fetching.keep, fetching.files, path="download") as part:
        file = fetch(
            open_,
            part,
            shown=fetching.shown,
            room=fetching.room,
            say=fetching.say(None),
            name=lambda answer: web.name_of(answer, fetching.shown),
        )
        fetching.add(file, part)


def _open_web(url: str, fetching: Fetching, headers: Mapping[str, str]) -> AbstractContextManager[web.Answer]:
    return web.get(
        url, shown=fetching.shown, guard=fetching.guard, headers=headers, sign=partial(_log_in, fetching.secret)
    )


def _log_in(secret: Mapping[str, str], _url: SplitResult, _headers: Mapping[str, str]) -> dict[str, str]:
    if bearer := secret.get("bearer"):
        return {"Authorization": f"Bearer {bearer}"}
    if "login" in secret or "password" in secret:
        pair = f"{secret.get('login', '')}:{secret.get('password', '')}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {}


# -- S3 ------------------------------------------------------------------------------------------


def _from_s3(fetching: Fetching) -> None:
    where = urlsplit(fetching.shown)
    bucket = s3.Bucket(
        name=where.netloc,
        endpoint=str(fetching.remote.get("endpoint") or ""),
        region=str(fetching.remote.get("region") or "us-east-1"),
        keys=_keys(fetching.secret),
        guard=fetching.guard,
    )
    key = unquote(where.path.lstrip("/"))
    if key and not key.endswith("/"):
        entry = next((each for each in _entries(bucket, key, fetching.shown) if each.key == key), None)
        if entry is not None:
            fetching.require_names([key.rpartition("/")[2]])
            _fetch_objects(bucket, {key.rpartition("/")[2]: entry}, fetching)
            return
        key += "/"
    found = {
        entry.key.removeprefix(key): entry
        for entry in _entries(bucket, key, fetching.shown)
        if not entry.key.endswith("/")  # what some programs leave where a folder was
    }
    fetching.require_names(list(found))
    _fetch_objects(bucket, found, fetching)


def _keys(secret: Mapping[str, str]) -> s3.Keys | None:
    if "access_key" not in secret:
        return None
    return s3.Keys(
        access_key=secret["access_key"],
        secret_key=secret["secret_key"],
        session_token=secret.get("session_token"),
    )


def _entries(bucket: s3.Bucket, prefix: str, shown: str) -> list[s3.Entry]:
    entries: list[s3.Entry] = []
    try:
        for entry in bucket.entries(prefix):
            entries.append(entry)
            if len(entries) > _MOST_FILES:
                raise UnreadableSource(f"{shown} has more than {_MOST_FILES} files; import parts of it")
    except web.Broken as broken:
        raise Unavailable(f"{shown} cannot be listed: {broken}; it is tried again later") from broken
    return entries


def _fetch_objects(bucket: s3.Bucket, found: Mapping[str, s3.Entry], fetching: Fetching) -> None:
    total = sum(entry.size_bytes for entry in found.values())
    waiting = {path: entry for path, entry in sorted(found.items()) if path not in fetching.here}
    missing = sum(entry.size_bytes for entry in waiting.values())
    fetching.room.expect(missing, name=fetching.shown, file_bytes=0)
    done = total - missing
    for path, entry in waiting.items():
        with Part(fetching.keep, fetching.files, path=path) as part:
            if part.known.path != path:
                part.begin(path=path, length_bytes=None, validator=None)
            file = fetch(
                bucket.object(entry.key),
                part,
                shown=f"s3://{bucket.name}/{entry.key}",
                room=fetching.room,
                say=fetching.say(total, done),
            )
            fetching.add(file, part)
        done += entry.size_bytes


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} TB"
