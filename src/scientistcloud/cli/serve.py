"""``scientistcloud serve``: the portal, with a worker beside it."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from scientistcloud import logs
from scientistcloud.errors import InvalidSettings
from scientistcloud.layout import DataFolder
from scientistcloud.settings import PREFIX, Settings, read_settings

_LOG = logging.getLogger("scientistcloud.serve")

SOFT_END_SECONDS = 5.0
"""So long a running job may go on after the portal was told to end; then it is given back to the queue."""
_LONGEST_PAUSE_SECONDS = 30.0
_WELL_SECONDS = 60.0  # a worker that ran so long was well: the next pause is short again
_OPEN_FILES = 65_536  # a stream for each open page, several files for each upload
# A worker must not outlive a portal that was killed: the kernel tells it to end. Set by the child itself, because
# code between fork and exec is unsafe in a process with threads.
_DIES_WITH_PARENT = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
    "os.getppid() == int(sys.argv.pop(1)) or sys.exit(0); from scientistcloud.cli import main; main()"
)


@click.command()
@click.option("--host", metavar="ADDRESS", help="Where to listen; 127.0.0.1, this machine alone, by default.")
@click.option("--port", type=click.IntRange(0, 65535), help="8080 by default; 0 takes a free one.")
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    metavar="N",
    help="Jobs that run at once; by default half the cores, at least 1. 0: none, workers run elsewhere.",
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="The data folder.")
@click.option("--access-log", is_flag=True, help="A line for each request, without its query.")
def command(
    host: str | None, port: int | None, workers: int | None, data_dir: Path | None, access_log: bool
) -> None:
    """The portal, with a worker beside it, until Ctrl-C.

    Prints the address that logs in. DATA_DIR/portal.json has it too, for commands on this machine.
    """
    settings = read_settings(host=host, port=port, data_dir=data_dir)
    logs.configure(settings.log_format, level=logging.WARNING)
    logging.getLogger("scientistcloud").setLevel(logging.INFO)
    logging.getLogger("scientistcloud.portal.access").setLevel(logging.INFO if access_log else logging.WARNING)
    slots = max(1, (os.cpu_count() or 2) // 2) if workers is None else workers

    _must_be_writable(settings.folder)
    listener = _listen(settings)
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    _allow_many_files()
    # SIGTERM is Ctrl-C: what is below ends in order, either way.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        _serve(settings, listener, slots)


def _serve(settings: Settings, listener: socket.socket, slots: int) -> None:
    from scientistcloud.assembly import open_store
    from scientistcloud.portal.app import create_app
    from scientistcloud.portal.server import PortalServer

    store = open_store(settings.store_url)
    try:
        app = create_app(settings, store)
        token: str = app.state.gate.token
        with _supervised_worker(settings, slots), _announced(settings, token) as announce:
            PortalServer(app, on_start=announce).run(sockets=[listener])
    finally:
        store.close()


# -- before it begins ----------------------------------------------------------------------------


def _must_be_writable(folder: DataFolder) -> None:
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder.root):
            pass
    except OSError as failed:
        raise InvalidSettings(
            f"the data folder {folder.root} cannot be written to: {failed.strerror}; "
            f"name another with --data-dir or {PREFIX}DATA_DIR"
        ) from failed


def _listen(settings: Settings) -> socket.socket:
    """A socket that listens already: whoever reads ``portal.json`` can connect."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as unknown:
        raise InvalidSettings(
            f"{settings.host} is no address of this machine: {unknown.strerror}; --host 127.0.0.1 always is"
        ) from unknown
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as failed:
        listener.close()
        if failed.errno == errno.EADDRINUSE:
            raise InvalidSettings(
                f"port {settings.port} of {settings.host} is taken; end what listens there, "
                "or take another with --port (0: any free one)"
            ) from failed
        raise InvalidSettings(
            f"cannot listen on {settings.host} port {settings.port}: {failed.strerror}; "
            "take another with --host and --port"
        ) from failed
    return listener


def _allow_many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


# -- while it runs -------------------------------------------------------------------------------


def address_of(settings: Settings) -> str:
    """How a browser on this machine reaches the portal; the public address where there is one."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104  # no binding
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return settings.public_url.rstrip("/") or f"http://{host}:{settings.port}"


@contextlib.contextmanager
def _announced(settings: Settings, token: str) -> Iterator[Callable[[], None]]:
    """Calling what it gives writes ``portal.json`` and prints the link; the file goes at the end."""
    path, address = settings.folder.portal, address_of(settings)
    said = json.dumps({"address": address, "token": token})

    def announce() -> None:
        handle, name = tempfile.mkstemp(prefix=".portal-", dir=path.parent)  # mode 0600
        with os.fdopen(handle, "w") as file:
            file.write(said)
        Path(name).replace(path)
        click.echo(
            f"ScientistCloud serves {settings.data_dir}. Open once to log in:\n\n  {address}/?token={token}\n"
        )
        if not settings.loopback:
            click.echo("Others can reach this address. Whoever has the token can do everything.\n")

    try:
        yield announce
    finally:
        with contextlib.suppress(OSError):
            if path.read_text() == said:  # another portal on the same folder may have written its own
                path.unlink()


@contextlib.contextmanager
def _supervised_worker(settings: Settings, slots: int) -> Iterator[None]:
    """A background service beside the portal, started again when it ends, ended with it."""
    if slots == 0:
        yield
        return
    supervisor = Supervisor(settings, slots)
    supervisor.start()
    try:
        yield
    finally:
        supervisor.end()


class Supervisor:
    """Keeps one ``scientistcloud worker`` running."""

    def __init__(self, settings: Settings, slots: int) -> None:
        self._command = [
            sys.executable, "-c", _DIES_WITH_PARENT, str(os.getpid()), "worker", "--slots", str(slots),
        ]  # fmt: skip
        self._environment = os.environ | {
            f"{PREFIX}DATA_DIR": str(settings.data_dir),
            f"{PREFIX}DATABASE_URL": settings.store_url,
        }
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        # The kernel watches over the thread that started the child, so this one lives as long as the portal.
        self._thread = threading.Thread(target=self._keep, name="supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Let the running job end for `SOFT_END_SECONDS`, then have it given back to the queue."""
        with self._lock:
            self._ending.set()
            process = self._process
        if process is not None:
            for patience in (SOFT_END_SECONDS, 10.0):
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(patience)
                    break
            else:
                process.kill()
                process.wait()
        self._thread.join(5)

    def _keep(self) -> None:
        pause = 1.0
        while True:
            with self._lock:
                if self._ending.is_set():
                    return
                # In a session of its own: Ctrl-C on the terminal reaches it through `end` alone.
                self._process = process = subprocess.Popen(  # noqa: S603  # ourselves
                    self._command, env=self._environment, stdin=subprocess.DEVNULL, start_new_session=True
                )
            began = time.monotonic()
            status = process.wait()
            if self._ending.is_set():
                return
            pause = 1.0 if time.monotonic() - began > _WELL_SECONDS else min(2 * pause, _LONGEST_PAUSE_SECONDS)
            _LOG.warning("the worker ended, it is started again%s", logs.facts(status=status, seconds=round(pause)))
            if self._ending.wait(pause):
                return
