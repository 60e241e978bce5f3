"""A worker's life, as others see it: its lock in the data folder, its entry in the database.

The lock is `lockf`, held by the service's process alone: the kernel gives it back when that dies, a process id
would be used again, and a forked child does not keep it.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

from scientistcloud.errors import IncompatibleInstallation, InvalidSettings
from scientistcloud.layout import DataFolder
from scientistcloud.ports import Store

_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ceph|lustre|gpfs|beegfs|ocfs2|gfs2|pvfs2|fuse\.(sshfs|\w*gluster\w*|ceph\w*|s3\w*)"
)

# `lockf` does not tell apart the threads of one process, and closing any descriptor of a file gives up its locks.
_held: set[Path] = set()
_holding = threading.Lock()


@contextmanager
def lock_of(path: Path, *, wait_seconds: float = 0.0) -> Iterator[bool]:
    """Hold the lock at `path` for the block; whether it could be had. Held, nobody else runs by that name."""
    path = path.absolute()
    until = time.monotonic() + wait_seconds
    while not (held := _take(path)) and time.monotonic() < until:
        time.sleep(0.05)
    try:
        yield held is not None
    finally:
        if held is not None:
            with _holding:
                os.close(held)
                _held.discard(path)


def _take(path: Path) -> int | None:
    with _holding:
        if path in _held:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as taken:
            os.close(file)
            if isinstance(taken, BlockingIOError | PermissionError):
                return None
            raise
        _held.add(path)
        return file


@contextmanager
def worker_name(folder: DataFolder, worker_id: str | None) -> Iterator[str]:
    """Be the worker `worker_id` for the block; None: the first free name of this host, ``HOST-1``, ``HOST-2`` …

    A name that is used again tells at once that its jobs have lost their worker. Raises `InvalidSettings`.
    """
    with ExitStack() as stack:
        with _usable(folder):
            if worker_id is None:
                names = (f"{host()}-{number}" for number in count(1))
                name = next(name for name in names if stack.enter_context(lock_of(folder.worker_lock(name))))
            else:
                name = worker_id
                # Somebody may be looking, for a moment, whether this worker is alive.
                if not stack.enter_context(lock_of(folder.worker_lock(name), wait_seconds=1.0)):
                    raise InvalidSettings(
                        f"a worker called {name} runs already on {folder.root}; "
                        "end it, or give this one another name with --worker-id"
                    )
        yield name


@contextmanager
def _usable(folder: DataFolder) -> Iterator[None]:
    try:
        yield
    except OSError as failed:
        raise InvalidSettings(
            f"the data folder {folder.root} cannot be used ({failed.strerror}); mend its rights or set DATA_DIR"
        ) from failed


def host() -> str:
    return socket.gethostname() or "localhost"


def check_installation(store: Store, folder: DataFolder) -> None:
    """See that data folder and database belong together; the first to come writes it down.

    Raises `IncompatibleInstallation`.
    """
    database = store.meta.installation_id()
    path = folder.installation_id
    with _usable(folder):
        if not path.exists():
            new = path.with_name(f"{path.name}.{os.getpid()}")
            with new.open("w") as file:
                file.write(f"{database}\n")
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(new, path)  # unlike a rename, it replaces nothing
            new.unlink()
        known = path.read_text().strip()
    if known != database:
        raise IncompatibleInstallation(
            f"the data folder {folder.root} belongs to installation {known[:40]}, the database to {database}; "
            "set DATA_DIR or DATABASE_URL so that they fit"
        )


def check_database_is_here(store: Store, *, lease_seconds: float) -> None:
    """Refuse an embedded database that another host can use too: it lives in memory shared on one host.

    Raises `InvalidSettings`.
    """
    if not store.url.startswith("sqlite:///"):
        return
    instead = "set DATABASE_URL to a database server, or run all workers on one host"
    path = Path(store.url.removeprefix("sqlite:///"))
    if _NETWORK.fullmatch(kind := file_system_of(path)):
        raise InvalidSettings(f"the database {path} lies on a network file system ({kind}); {instead}")
    now = store.clock.now()
    for worker in store.workers.all():
        if worker.host != host() and (now - worker.last_seen).total_seconds() < 3 * lease_seconds:
            raise InvalidSettings(
                f"the database {path} is used by worker {worker.worker_id} on host {worker.host}; {instead}"
            )


def file_system_of(path: Path, *, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that `path` lies on, as the system names it; empty where it does not tell."""
    place = os.path.realpath(path)
    longest, kind = "", ""
    with suppress(OSError):
        for line in mounts.read_text().splitlines():
            before, _, after = line.partition(" - ")
            where = before.split()[4].encode().decode("unicode_escape")  # a space is \\040
            inside = place == where or place.startswith(where.rstrip("/") + "/")
            if inside and len(where) >= len(longest):  # a later mount covers an earlier one
                longest, kind = where, after.split()[0]
    return kind
