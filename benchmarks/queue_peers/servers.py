"""The servers of the peers that need one: Debian's, in a temporary folder, every answer on the disk first."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Protocol


class Missing(Exception):
    """What cannot be measured here, and why."""


class Place(Protocol):
    """Where the jobs of one measurement lie."""

    #: For people: what it is, and its version.
    name: str

    def fresh(self) -> str:
        """An empty place: how a peer's program names it."""

    def size_bytes(self, where: str) -> int:
        """How much lies there."""

    def processes(self) -> list[int]:
        """The server's, without its children."""

    def stop(self) -> None:
        """End the server."""


class Files:
    """A new file each time."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fresh(self) -> str:
        return str(self._folder / f"{uuid.uuid4().hex}.db")

    def size_bytes(self, where: str) -> int:
        with closing(sqlite3.connect(where)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Path(where).stat().st_size

    def processes(self) -> list[int]:
        return []

    def stop(self) -> None:
        """There is no server."""


class PostgreSQL:
    """A cluster of its own with the defaults of `initdb`, so with `fsync` and `synchronous_commit` on."""

    def __init__(self, folder: Path) -> None:
        newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        if not newest:
            raise Missing("PostgreSQL is not installed (apt-get install postgresql)")
        self._bin, self._folder = newest[-1], folder
        self._user = _unprivileged()
        folder.mkdir()
        if self._user is not None:
            shutil.chown(folder, self._user)
        self._run("initdb", "--pgdata", str(folder / "data"), "--auth=trust", "--username=bench")
        self._server = subprocess.Popen(
            [str(self._bin / "postgres"), "-D", str(folder / "data"), "-k", str(folder), "-c", "listen_addresses="],
            user=self._user, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.name = "PostgreSQL " + self._run("postgres", "--version").split()[2]
        until = time.monotonic() + 30
        while not self._answers():
            if time.monotonic() > until:
                self.stop()
                raise Missing("PostgreSQL did not start within 30 s")
            time.sleep(0.1)

    def fresh(self) -> str:
        name = f"b{uuid.uuid4().hex}"
        self._run("createdb", "--host", str(self._folder), "--username=bench", name)
        return f"postgresql://bench@/{name}?host={self._folder}"

    def size_bytes(self, where: str) -> int:
        size = "SELECT pg_database_size(current_database()) - pg_database_size('template0')"
        return int(self._run("psql", "--no-align", "--tuples-only", "--command", size, where))

    def processes(self) -> list[int]:
        return [self._server.pid]

    def stop(self) -> None:
        self._server.terminate()
        self._server.wait(30)

    def _answers(self) -> bool:
        command = [str(self._bin / "pg_isready"), "--quiet", "--host", str(self._folder)]
        return subprocess.run(command, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(self._bin / program), *arguments], user=self._user, cwd=self._folder, check=True, text=True,
            capture_output=True,
        )  # fmt: skip
        return done.stdout


class Redis:
    """A server with an append-only file that is on the disk before each answer."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise Missing("Redis is not installed (apt-get install redis-server)")
        folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._server = subprocess.Popen(
            [program, "--bind", "127.0.0.1", "--port", str(self._port), "--dir", str(folder), "--save", "",
             "--appendonly", "yes", "--appendfsync", "always"],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        until = time.monotonic() + 30
        while True:
            try:
                self.name = "Redis " + self._told("redis_version")
                break
            except OSError:
                if time.monotonic() > until or self._server.poll() is not None:
                    self.stop()
                    raise Missing("Redis did not start within 30 s") from None
                time.sleep(0.1)

    def fresh(self) -> str:
        self._say("FLUSHALL")
        self._empty = int(self._told("used_memory"))
        return f"redis://127.0.0.1:{self._port}/0"

    def size_bytes(self, where: str) -> int:  # noqa: ARG002  # there is one at a time
        return int(self._told("used_memory")) - self._empty

    def processes(self) -> list[int]:
        return [self._server.pid]

    def stop(self) -> None:
        self._server.kill()
        self._server.wait()

    def _told(self, name: str) -> str:
        return next(line for line in self._say("INFO").splitlines() if line.startswith(name + ":")).split(":")[1]

    def _say(self, command: str) -> str:
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as connection:
            connection.sendall(f"{command}\r\nQUIT\r\n".encode())
            said = b""
            while more := connection.recv(65536):
                said += more
        return said.decode()


def _unprivileged() -> str | None:
    """Whom PostgreSQL runs as, for it refuses root; None: as whoever runs this."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)
