"""The warm process from which each attempt's process is forked, started as a program of its own.

It imports what the tasks need, once, and opens nothing: no database, no threads. Beside forking it is the
watchman: it ends an attempt's processes when the service asks, dies, or has been silent for a lease. It never
runs a task itself, so nothing can keep it from doing so.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import NoReturn

from scientistcloud import plugins
from scientistcloud.service import child
from scientistcloud.tasks import registry
from scientistcloud.tasks.contract import Task

MESSAGE_BYTES = 2**16
_WARMED = ("scientistcloud.converters.formats.tiff.reader", "scientistcloud.omezarr.preview")


@dataclass(slots=True)
class _Attempt:
    """A child that runs."""

    #: The service's end is in its hands; what it sends are signs of life, its end of file asks for the end.
    watch: socket.socket
    heard: float
    killed: bool = False


class Template:
    """Forks attempts on request and watches over them, until the service closes the socket `control`."""

    def __init__(self, control: socket.socket, tasks: dict[str, Task], *, silence_seconds: float) -> None:
        self._control = control
        self._tasks = tasks
        self._silence_seconds = silence_seconds
        self._attempts: dict[int, _Attempt] = {}
        self._selector = selectors.DefaultSelector()
        # A child's end wakes the selector.
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._waker, False)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)

    def serve(self) -> None:
        """Go on until the service is gone; then end what still runs."""
        while True:
            pause = self._silence_seconds / 4 if self._attempts else None
            for key, _ in self._selector.select(pause):
                if key.fileobj is self._control:
                    if not self._start():
                        self._end_all()
                        return
                elif key.fileobj == self._woken:
                    os.read(self._woken, 4096)
                else:
                    self._hear(key.data)
            self._reap()
            for pid, attempt in self._attempts.items():
                if time.monotonic() - attempt.heard > self._silence_seconds:
                    _kill(pid, attempt)

    def _start(self) -> bool:
        """Fork one attempt; False when the service is gone."""
        message, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 3)
        if not message:
            return False
        talk, watch, log = descriptors
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_child(talk, watch, log, parent)
        os.close(talk)
        os.close(log)
        attempt = _Attempt(socket.socket(fileno=watch), time.monotonic())
        self._attempts[pid] = attempt
        self._selector.register(attempt.watch, selectors.EVENT_READ, pid)
        _tell(attempt, pid=pid)
        return True

    def _become_child(self, talk: int, watch: int, log: int, parent: int) -> NoReturn:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        others = [self._control.fileno(), self._woken, self._waker, self._selector.fileno(), watch]
        others += [attempt.watch.fileno() for attempt in self._attempts.values()]
        child.run(self._tasks, talk=talk, log=log, parent=parent, others=others)

    def _hear(self, pid: int) -> None:
        attempt = self._attempts.get(pid)
        if attempt is None:
            return
        heard = b""
        with suppress(ConnectionError):
            heard = attempt.watch.recv(MESSAGE_BYTES)
        if heard:
            attempt.heard = time.monotonic()
        else:
            self._selector.unregister(attempt.watch)
            _kill(pid, attempt)

    def _reap(self) -> None:
        while self._attempts:
            # Left as a zombie for now: so its number, and its group's, cannot be anybody else's yet.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            with suppress(ProcessLookupError):
                os.killpg(ended.si_pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(ended.si_pid, 0)[1])
            attempt = self._attempts.pop(ended.si_pid)
            with suppress(KeyError):
                self._selector.unregister(attempt.watch)
            _tell(attempt, status=status)
            attempt.watch.close()

    def _end_all(self) -> None:
        for pid, attempt in self._attempts.items():
            _kill(pid, attempt)
        for pid in self._attempts:
            os.waitpid(pid, 0)


def _kill(pid: int, attempt: _Attempt) -> None:
    """End the process and what it started. It is not reaped yet, so the number is its own."""
    if attempt.killed:
        return
    attempt.killed = True
    os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):  # not in a group of its own yet
        os.killpg(pid, signal.SIGKILL)


def _tell(attempt: _Attempt, **news: int) -> None:
    with suppress(OSError):  # the service is gone; its end of file comes next
        attempt.watch.send(json.dumps(news).encode())


def _sensors() -> list[str]:
    """What the installed converters read; loading them, and what most conversions use, warms their libraries."""
    for module in _WARMED:
        import_module(module)
    return sorted(
        {
            str(sensor)
            for converter in plugins.load_all(plugins.CONVERTERS).values()
            for sensor in getattr(converter, "sensors", ())
        }
    )


def main(descriptor: int) -> None:
    """Load the tasks that the first message names, say what they are, and serve."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Whoever stops the service may signal its whole group; the service alone decides what becomes of us.
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as control:
        hello = json.loads(control.recv(MESSAGE_BYTES))
        sys.path[:] = hello["path"]
        try:
            tasks = registry.load(hello["tasks"])
            answer = {"job_types": sorted(tasks), "sensors": _sensors() if hello["tasks"] is None else []}
        except Exception as broken:  # noqa: BLE001  told to the service, which says it to people
            control.send(json.dumps({"broken": str(broken)[:2000]}).encode())
            return
        gc.collect()
        gc.freeze()  # so that a child's collector does not copy every page of ours
        control.send(json.dumps(answer).encode())
        Template(control, tasks, silence_seconds=hello["silence_seconds"]).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
