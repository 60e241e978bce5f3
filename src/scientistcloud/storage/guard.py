"""The guard of a data set's folder: who holds its lock may move forms; a file says what is true, and what moves.

A move is written down before it is done, with what will be true after it; whoever takes the lock next does again
what a crash cut short. Each is one rename, left out where its target exists, so that doing it twice is harmless.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scientistcloud.errors import LeaseLost, Unavailable
from scientistcloud.layout import DatasetFolder
from scientistcloud.records import Json
from scientistcloud.storage.folders import sync


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """What ``.guard.json`` says."""

    #: The greatest token that began an attempt here, or was given by `heal`.
    token: int = 0
    #: `job_id`, `token`, `names`, `outcome` and `at` (POSIX seconds) of the form in place.
    published: Json | None = None
    #: By the folder's name: the publication that lies in it, and since when.
    aside: Mapping[str, Json] = field(default_factory=dict)
    #: `job_id`, `token` and `outcome` of the job that brought source files last.
    arrived: Json | None = None
    #: (from, to), relative to the data set's folder: renames that may not all have been done.
    moves: tuple[tuple[str, str], ...] = ()
    #: What is true once they are: `published`, `aside` and `arrived`.
    then: Json | None = None


@contextmanager
def locked(folder: DatasetFolder, *, wait_seconds: float) -> Iterator[Guarded]:
    """Hold the guard's lock; what is known, after the moves that a crash cut short.

    `flock` and not `lockf`, which does not exclude two threads of one process. Raises `Unavailable`.
    """
    guard = os.open(folder.guard, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _wait_for(guard, folder.guard, wait_seconds=wait_seconds)
        yield finish_moves(folder, read(folder))
    finally:
        os.close(guard)


def refuse_older(known: Guarded, token: int, dataset_uuid: str) -> None:
    if known.token > token:
        raise LeaseLost(f"data set {dataset_uuid} is worked on with token {known.token}, so {token} is over")


def in_place(folder: DatasetFolder, known: Guarded) -> bool:
    names = known.published["names"] if known.published else ()
    return all(os.path.lexists(folder.root / name) for name in names)


def finish_moves(folder: DatasetFolder, known: Guarded) -> Guarded:
    """Do the moves that `known` has written down, those that are not done yet, and write down that they are."""
    if known.then is None:
        return known
    for source, target in known.moves:
        there = folder.root / target
        if not os.path.lexists(there):
            # Missing: it was moved before the crash, and moved on since (an exchange by two moves).
            with suppress(FileNotFoundError):
                (folder.root / source).rename(there)
    for path in {(folder.root / name).parent for move in known.moves for name in move}:
        with suppress(FileNotFoundError):
            sync(path)
    known = Guarded(
        token=known.token,
        published=known.then["published"],
        aside=known.then["aside"],
        arrived=known.then.get("arrived"),  # one of an earlier version has none
    )
    write(folder, known)
    return known


def read(folder: DatasetFolder) -> Guarded:
    try:
        found: dict[str, Any] = json.loads(folder.guarded.read_bytes())
    except FileNotFoundError:
        return Guarded()
    except ValueError as broken:
        raise Unavailable(f"{folder.guarded} cannot be read ({broken}); restore it from a backup") from broken
    return Guarded(
        token=found["token"],
        published=found["published"],
        aside=found["aside"],
        arrived=found.get("arrived"),
        moves=tuple((source, target) for source, target in found["moves"]),
        then=found["then"],
    )


def write(folder: DatasetFolder, known: Guarded) -> None:
    """Replace the file, durably and at once; only ever under the lock."""
    new = folder.guarded.with_suffix(".new")
    text = json.dumps(
        {name: getattr(known, name) for name in ("token", "published", "aside", "arrived", "moves", "then")},
        indent=1,
    )
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(folder.guarded)
    sync(folder.root)


def _wait_for(guard: int, path: Path, *, wait_seconds: float) -> None:
    until = time.monotonic() + wait_seconds
    pause = 0.001
    while True:
        try:
            return fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise Unavailable(
                    f"{path} has been locked by {_holder(guard)} for {wait_seconds:g} s; "
                    "see what that does, or end it"
                ) from None
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def _holder(descriptor: int) -> str:
    """Who holds the lock of the file behind `descriptor`, as far as this machine's kernel knows."""
    with suppress(OSError):
        inode = f":{os.fstat(descriptor).st_ino}"
        for line in Path("/proc/locks").read_text().splitlines():
            columns = line.split()
            if "FLOCK" in columns and "->" not in columns and any(column.endswith(inode) for column in columns):
                process = columns[columns.index("FLOCK") + 3]
                name = Path(f"/proc/{process}/comm").read_text().strip()
                return f"process {process} ({name})"
    return "a process that is not on this machine"
