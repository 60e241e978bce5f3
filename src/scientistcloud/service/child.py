"""What happens in the process of one attempt: forked from the template, it opens no database.

It reads its order from a socket, runs the task, and writes progress and the end to the same socket, a line of
JSON each. Whatever it prints goes to the job's log.
"""

from __future__ import annotations

import ctypes
import errno
import json
import logging
import math
import os
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from scientistcloud.errors import CallersMistake, NoSpace, ScientistCloudError, SourceError
from scientistcloud.records import JobError
from scientistcloud.tasks.contract import Task, Work

ANSWER_BYTES = 2**20
"""How long the outcome of a task may be, as JSON; pixels and tables belong into files."""
OUT_OF_MEMORY = "OutOfMemory"
FILE_TOO_LARGE = "FileTooLarge"
_REPORT_SECONDS = 0.1
_GIB = 2**30
_PR_SET_PDEATHSIG = 1


def run(tasks: Mapping[str, Task], *, talk: int, log: int, parent: int, others: Sequence[int]) -> NoReturn:
    """Be the process of one attempt, and end.

    Parameters
    ----------
    talk, log
        Descriptors: the socket to the service, the pipe to the job's log.
    parent
        The template's process id, to see whether it died before the kernel was asked to tell.
    others
        The template's own descriptors. Held open here they would hide its death from the service.
    """
    status = 1
    try:
        _settle_in(log, parent=parent, others=others)
        with socket.socket(fileno=talk) as service:
            status = _attempt(tasks, service)
    except BaseException:  # noqa: BLE001  nothing may return into the template's code
        with suppress(Exception):
            traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _settle_in(log: int, *, parent: int, others: Sequence[int]) -> None:
    os.setsid()  # what the task starts is in this group, and ends with it
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    for descriptor in others:
        os.close(descriptor)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(nothing)
    os.close(log)
    sys.stdout = os.fdopen(1, "w", buffering=1, errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", force=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # where memory ends, the kernel takes this process and not the service
        Path("/proc/self/oom_score_adj").write_text("800")


def _attempt(tasks: Mapping[str, Task], service: socket.socket) -> int:
    """Run the task that the order names; 0 when the service was told how it ended."""
    with service.makefile("rb") as lines:
        order = json.loads(lines.readline())
    reports = _Reports(service)
    answer: dict[str, Any]
    try:
        paths = {name: Path(order[name]) for name in ("source", "output", "keep")}
        work = Work(**{**order, **paths}, report=reports.report)
        # Wide: address space is mapped far beyond what is used. What is used is watched by the service.
        wide = 2 * work.memory_bytes + 2 * _GIB
        resource.setrlimit(resource.RLIMIT_DATA, (wide, wide))
        if work.file_bytes is not None:
            # Python ignores the signal of that limit, and then a library may go on without what it could not write.
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            allowed = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            most = work.file_bytes if allowed == resource.RLIM_INFINITY else min(work.file_bytes, allowed)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        os.chdir(work.output)
        outcome = tasks[work.job_type].run(work)
        answer = {"outcome": asdict(outcome)}
        line = _encoded(answer)
    except BaseException as failed:  # noqa: BLE001  the one place that catches everything, and tells
        if not isinstance(failed, ScientistCloudError):
            traceback.print_exc()
        line = _encoded({"error": asdict(_described(failed))})
    reports.end(line)
    return 0


class _Reports:
    """Progress on its way to the service: a line at once, then one a tenth of a second, the latest always."""

    def __init__(self, service: socket.socket) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._sent = -math.inf
        self._waiting = b""

    def report(self, fraction: float, step: str) -> None:
        line = _encoded({"fraction": float(fraction), "step": str(step)[:200]})
        with self._lock:
            left = self._sent + _REPORT_SECONDS - time.monotonic()
            if self._waiting:
                self._waiting = line
            elif left <= 0:
                self._send(line)
            else:
                # A task may be silent for minutes after this, and it is what people should see meanwhile.
                self._waiting = line
                later = threading.Timer(left, self._send_what_waits)
                later.daemon = True
                later.start()

    def end(self, line: bytes) -> None:
        """The last line; nothing comes after it."""
        with self._lock:
            self._waiting = b""
            self._service.sendall(line)

    def _send_what_waits(self) -> None:
        with self._lock, suppress(OSError):
            line, self._waiting = self._waiting, b""
            if line:
                self._send(line)

    def _send(self, line: bytes) -> None:
        self._sent = time.monotonic()
        self._service.sendall(line)


def _encoded(message: dict[str, Any]) -> bytes:
    try:
        line = json.dumps(message, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as wrong:
        raise _UnusableOutcome(str(wrong)) from wrong
    if len(line) > ANSWER_BYTES:
        raise _UnusableOutcome(f"it is {len(line)} bytes long; write what is large into a file")
    return line


class _UnusableOutcome(ValueError):
    """A task's outcome that cannot be carried to the service."""


def _described(failed: BaseException) -> JobError:
    """What to say of an exception; permanent where another attempt would meet it again."""
    kind, text = type(failed).__name__, " ".join(str(failed).split())[:2000]
    match failed:
        case SourceError() | CallersMistake():
            return JobError(type=kind, message=text, permanent=True)
        case ScientistCloudError():
            return JobError(type=kind, message=text)
        case _UnusableOutcome():
            return JobError(type=kind, message=f"the task's outcome cannot be used: {text}", permanent=True)
        case MemoryError():
            return JobError(
                type=OUT_OF_MEMORY, message="the work needs more memory than it may have; raise SLOT_MEMORY_BYTES"
            )
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return JobError(type=NoSpace.__name__, message="the disk is full; free some space, it is tried again")
        case _:
            return JobError(type=kind, message=f"the work stopped with {kind}: {text}; see the job's log")
