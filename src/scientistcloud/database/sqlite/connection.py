"""The open database: a writing connection behind a lock, a pool of reading ones, one that watches.

Threads may share it. A forked child may not: it finds every use refused, and opens one of its own.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scientistcloud.database.sqlite.checkpoints import FALLBACK_PAGES, Checkpoints
from scientistcloud.database.sqlite.descriptors import Descriptor, descriptor_of
from scientistcloud.database.sqlite.faults import translated
from scientistcloud.database.sqlite.locking import PATIENCE_SECONDS, WriterLock
from scientistcloud.database.sqlite.migrations import identify, migrate
from scientistcloud.errors import InvalidSettings, InvalidTransition, NoSpace, Unavailable

_OLDEST = (3, 35, 0)  # RETURNING
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has the second alone


class Database:
    """The file at `path`, made or migrated if need be. See `assembly.open_store` for what is raised."""

    def __init__(self, path: Path) -> None:
        if sqlite3.sqlite_version_info < _OLDEST:
            raise InvalidSettings(
                f"this Python brings SQLite {sqlite3.sqlite_version}; ScientistCloud needs 3.35 or newer, so use "
                "another Python"
            )
        self.path = path
        self._refusal: str | None = None
        self._connections: list[sqlite3.Connection] = []
        self._readers: list[sqlite3.Connection] = []
        self._observers: list[list[str]] = []
        self._watching = threading.Lock()
        # Each call of `make_durable` and each sync draws one; a sync covers the calls that drew before it.
        self._tickets = itertools.count(1)
        self._synced = 0
        self._syncing = threading.Lock()
        _make_folder(path)
        self._file = _looked_at(path)
        try:
            self._writer = self._connect()
            identify(self._writer, path)
            self._lock = WriterLock(path.with_name(path.name + ".lock"))
            self._prepare()
            self._writer.execute(f"PRAGMA wal_autocheckpoint = {FALLBACK_PAGES}")
            self._checkpoints = Checkpoints(self._connect, self._file, self._lock)
            self._watcher = self._connect()
            # Held open by the connections' own locks: SQLite removes it with the last of them.
            self._log = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException as error:
            self._close_connections()
            self._file.close()
            if isinstance(error, sqlite3.Error):
                raise translated(error, path) from error
            if isinstance(error, OSError):
                raise InvalidSettings(
                    f"the database {path} cannot be made: {error.strerror}; mend its folder"
                ) from error
            raise
        _OPEN.add(self)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading; each statement sees what is committed when it begins."""
        self._check()
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = self._connect()
        try:
            yield connection
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
        finally:
            self._readers.append(connection)

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection whose statements all see the same moment."""
        with self.read() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction, committed at the end of the block, rolled back by an exception.

        `durable`: on the disk before the block is left. Otherwise a power cut may undo the last of them, never
        out of order and never half, until somebody calls `make_durable`; the end of a process undoes nothing.

        Raises `Unavailable` where another process writes and does not end, `NoSpace` on a full disk.
        """
        self._check()
        self._lock.acquire()
        try:
            connection = self._writer
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
                # By seeking: after an `fstat` the next sync takes a third longer (timestamps since Linux 6.13).
                self._checkpoints.note_commit(connection.total_changes, os.lseek(self._log, 0, os.SEEK_END))
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            trouble = translated(error, self.path)
            if isinstance(trouble, NoSpace):
                self._checkpoints.want()  # it gives the log's room back
            raise trouble from error
        finally:
            self._lock.release()
        if durable:
            self.make_durable()

    def make_durable(self) -> None:
        """All that was committed by now, by whomever, is on the disk when this returns.

        Threads that come while another's sync runs share the next one.
        """
        mine = next(self._tickets)
        with self._syncing:
            if self._synced > mine:
                return
            begun = next(self._tickets)
            try:
                _sync(self._log)
            except OSError as error:
                raise Unavailable(
                    f"the disk of the database {self.path} does not answer: {error.strerror}"
                ) from error
            self._synced = begun

    def change_mark(self) -> int:
        """Another number after a commit by any connection, of this process or another."""
        self._check()
        with self._watching:
            try:
                return int(self._watcher.execute("PRAGMA data_version").fetchone()[0])
            except sqlite3.Error as error:
                raise translated(error, self.path) from error

    @contextmanager
    def trace(self) -> Iterator[list[str]]:
        """While open, a list that grows by each statement that this process sends, its values filled in."""
        seen: list[str] = []
        self._observers.append(seen)
        self._observe()
        try:
            yield seen
        finally:
            self._observers = [each for each in self._observers if each is not seen]
            self._observe()

    def close(self) -> None:
        if self._refusal is None:
            self._refusal = f"the database {self.path} was closed here; open it again"
            self._checkpoints.close()
            with self._watching:
                self._close_connections()
            self._lock.close()
            os.close(self._log)
            self._file.close()

    def abandon(self) -> None:
        """In a forked child: touch nothing, for the connections are the parent's."""
        if self._refusal is None:
            self._refusal = f"the database {self.path} was opened before this process was forked; open it anew"
            # SQLite's memory and locks belong to the parent; not even closing them is ours.
            _NOT_OURS.extend(self._connections)
            self._lock.close()
            os.close(self._log)
            self._file.close()

    def _check(self) -> None:
        if self._refusal is not None:
            raise InvalidTransition(self._refusal)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=PATIENCE_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        # A commit does not wait for the disk while it holds the lock; `make_durable` does afterwards.
        connection.execute("PRAGMA synchronous = NORMAL")
        # SQLite's own LIKE and lower() fold ASCII alone.
        connection.create_function("folded", 1, str.casefold, deterministic=True)
        self._connections.append(connection)
        if self._observers:
            connection.set_trace_callback(self._note)
        return connection

    def _prepare(self) -> None:
        self._lock.acquire()
        try:
            mode = self._writer.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise InvalidSettings(
                    f"the file system of {self.path} cannot hold the database (no shared memory); "
                    "put it on a local disk"
                )
            migrate(self._writer, self.path)
        finally:
            self._lock.release()

    def _observe(self) -> None:
        for connection in self._connections:
            connection.set_trace_callback(self._note if self._observers else None)

    def _note(self, statement: str) -> None:
        for seen in self._observers:
            seen.append(statement)

    def _close_connections(self) -> None:
        for connection in self._connections:
            connection.close()


_OPEN: weakref.WeakSet[Database] = weakref.WeakSet()
_NOT_OURS: list[sqlite3.Connection] = []


def _abandon_all() -> None:
    for database in list(_OPEN):
        database.abandon()


os.register_at_fork(after_in_child=_abandon_all)


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSettings(
            f"the folder {path.parent} for the database cannot be made ({error.strerror}); "
            "name another in DATABASE_URL"
        ) from error
    if path.is_dir():
        raise InvalidSettings(f"{path} is a folder; name a file for the database in DATABASE_URL")
    if not os.access(path.parent, os.W_OK):
        raise InvalidSettings(f"the folder {path.parent} of the database cannot be written; mend its rights")


def _looked_at(path: Path) -> Descriptor:
    """Its descriptor; what is no database is refused before SQLite puts files of its own beside it."""
    try:
        if not path.exists():
            path.touch()
        file = descriptor_of(path)
    except OSError as error:
        raise InvalidSettings(
            f"the database {path} cannot be opened ({error.strerror}); mend its rights"
        ) from error
    head = os.pread(file.number, 16, 0)
    if head and head != b"SQLite format 3\0":
        file.close()
        not_one = sqlite3.DatabaseError("file is not a database")
        not_one.sqlite_errorcode = sqlite3.SQLITE_NOTADB
        raise translated(not_one, path)
    return file
