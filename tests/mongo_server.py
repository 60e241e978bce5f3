"""A server that speaks MongoDB's protocol, in a process of its own, with its own data, pid and log files."""

from __future__ import annotations

import os
import socket
import subprocess
import sysconfig
import time
import uuid
from pathlib import Path
from typing import Any

import pymongo

PROGRAM = Path(sysconfig.get_path("scripts")) / "nx-27017"


class MongoServer:
    """`nx-27017` on a free port, its data below `home`; it can be killed and started again."""

    def __init__(self, home: Path, host: str = "127.0.0.1") -> None:
        self._home = home
        self._host = host
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def address(self) -> str:
        return f"{self._host}:{self.port}"

    def start(self) -> None:
        """Start it; on the same port where it has run before."""
        for _attempt in range(5):  # a free port can be taken between the question and the start
            port = self.port or _free_port()
            with (self._home / "output.txt").open("ab") as output:
                self._process = subprocess.Popen(
                    [
                        PROGRAM, "--data-dir", self._home / "data", "--host", self._host, "--port", str(port),
                        "--log-file", self._home / "log.txt", "--pid-file", self._home / "pid",
                    ],
                    cwd=self._home, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
            if self._listens(port):
                self.port = port
                return
            self.kill()
        raise AssertionError(f"nx-27017 did not start: {(self._home / 'output.txt').read_text()[-2000:]}")

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def runs(self) -> bool:
        return self._process is not None

    def kill(self) -> None:
        """As a power cut would; also its end, for it takes its time over any other."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self, port: int, patience_seconds: float = 30.0) -> bool:
        assert self._process is not None
        until = time.monotonic() + patience_seconds
        while time.monotonic() < until and self._process.poll() is None:
            try:
                socket.create_connection((self._host, port), 0.2).close()
            except OSError:
                time.sleep(0.02)
            else:
                return True
        return False


def real_server() -> str | None:
    """The address of the real server that the tests are to use, without a database; None: the stand-in."""
    return os.environ.get("SCIENTISTCLOUD_TEST_MONGODB_URL")


def new_database(server: str) -> str:
    """The address of a database on `server` that nobody else uses."""
    host, question, options = server.partition("?")
    return f"{host.rstrip('/')}/scientistcloud_test_{uuid.uuid4().hex[:12]}{question}{options}"


def empty(url: str) -> None:
    """Remove every document of the database that `url` names; its indexes stay."""
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        for name in database.list_collection_names():
            database[name].delete_many({})


def drop(url: str) -> None:
    """Remove the database that `url` names."""
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        client.drop_database(database.name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
