"""rclone, driven over its remote control on a UNIX socket that only we can open.

Nothing that opens a source is in its arguments, its environment or a file: it comes over the socket. It reaches the
network only through a proxy that lets through what the guard allows.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scientistcloud.errors import InvalidSettings, Unavailable
from scientistcloud.tasks.fetching.proxy import Proxy, a_proxy
from scientistcloud.uploads.addresses import Guard

_START_SECONDS = 30.0
_CALL_SECONDS = 3600.0  # a list of a million files can take a while
_ANSWER_BYTES = 1 << 30


class Failed(Exception):
    """What rclone said went wrong."""


class Rclone:
    """One that runs."""

    def __init__(self, control: Path, proxy: Proxy) -> None:
        self._control = control
        self.proxy = proxy

    def call(self, command: str, **parameters: Any) -> dict[str, Any]:
        """What it answers. Raises `Failed` in its words, `Unavailable` where it does not answer."""
        connection = _UnixConnection(self._control)
        try:
            connection.request(
                "POST", f"/{command}", json.dumps(parameters), headers={"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read(_ANSWER_BYTES) or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as failed:
            raise Unavailable(f"rclone does not answer ({type(failed).__name__}); it is tried again") from failed
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise Failed(str(answer.get("error", response.status)))  # its `input` holds what was sent
        return answer


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_CALL_SECONDS)
        self.sock.connect(str(self._path))


def program() -> str | None:
    """Where rclone is; None where it is not installed."""
    beside = Path(sys.executable).with_name("rclone")
    return str(beside) if beside.exists() else shutil.which("rclone")


@contextmanager
def running(folder: Path, guard: Guard) -> Iterator[Rclone]:
    """An rclone for as long as the block lasts; `folder` exists and is emptied with the attempt."""
    found = program()
    if found is None:
        raise InvalidSettings(
            "this worker has no rclone, which such an import needs; install scientistcloud[imports] there"
        )
    home = folder / "rclone"
    home.mkdir(mode=0o700, exist_ok=True)
    # Paths of sockets are short, and data folders may lie deep: both sides name it relative to its folder.
    inside = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    control = Path(f"/proc/self/fd/{inside}/rc")
    with a_proxy(guard) as proxy:
        process = subprocess.Popen(  # noqa: S603  fixed arguments
            [found, "rcd", "--rc-addr", "unix://rc", "--rc-no-auth", "--config", "", "--cache-dir", str(home)],
            cwd=home,
            # Nothing of ours, and no settings of whoever started us.
            env={"HOME": str(home), "PATH": "/usr/bin:/bin", "RCLONE_HTTP_PROXY": proxy.url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(control, process)
            yield Rclone(control, proxy)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(inside)


def _wait_for(control: Path, process: subprocess.Popen[bytes]) -> None:
    """Until it answers: between its socket's being there and that, a connection is refused."""
    until = time.monotonic() + _START_SECONDS
    while not _accepts(control):
        if process.poll() is not None or time.monotonic() > until:
            raise Unavailable("rclone does not start; it is tried again")
        time.sleep(0.02)


def _accepts(control: Path) -> bool:
    connection = _UnixConnection(control)
    try:
        connection.connect()
    except OSError:
        return False
    finally:
        connection.close()
    return True


def obscured(rclone: Rclone, options: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """`options` with those called `names` as rclone wants them."""
    return {
        name: rclone.call("core/obscure", clear=value)["obscured"] if name in names else value
        for name, value in options.items()
    }
