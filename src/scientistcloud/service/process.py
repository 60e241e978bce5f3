"""The service's side of a process that works on one attempt: it listens, holds it to its limits, ends it.

Nothing that the process says is trusted: each of its lines is bounded and checked.
"""

from __future__ import annotations

import json
import math
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from scientistcloud.records import JobError, Progress
from scientistcloud.service.child import ANSWER_BYTES, FILE_TOO_LARGE, OUT_OF_MEMORY
from scientistcloud.service.joblog import JobLog
from scientistcloud.tasks.contract import Arrival, Outcome, Work

Watch = Callable[[Progress], None]
"""Called several times a second with the latest progress; what it raises ends the attempt and is passed on."""

TICK_SECONDS = 0.1
KILL_SECONDS = 10.0
MESSAGE_BYTES = 2**16
_LOG_BYTES_A_TICK = 2**22


class Process:
    """A process that the template was asked to fork for `work`.

    `talk` is the socket to it, `watch` the one to the template, `log` the pipe into which it prints.
    """

    def __init__(self, work: Work, talk: socket.socket, watch: socket.socket, log: int) -> None:
        self._work = work
        self._talk, self._watch, self._log_pipe = talk, watch, log
        self._buffer = bytearray()
        self._pid: int | None = None
        self._progress = Progress()
        #: `{"outcome": …}` or `{"error": …}`, as the process said it.
        self._answer: Mapping[str, Any] | None = None
        #: How the process ended: its status, or minus the signal.
        self._status: int | None = None
        self._template_is_gone = False
        os.set_blocking(log, False)
        talk.setblocking(False)
        watch.setblocking(False)

    def follow(
        self, log: JobLog, *, timeout_seconds: float | None, ping_seconds: float, watch: Watch
    ) -> Outcome | JobError:
        """Listen until the process has ended, or must end."""
        order = self._order()
        started = pinged = looked = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._talk, selectors.EVENT_READ | selectors.EVENT_WRITE)
            selector.register(self._watch, selectors.EVENT_READ)
            selector.register(self._log_pipe, selectors.EVENT_READ)
            while self._status is None and not self._template_is_gone:
                ready = selector.select(TICK_SECONDS)
                now = time.monotonic()
                if now - looked >= TICK_SECONDS:
                    # Before anything is written down: this service may just have been stopped for a lease.
                    looked = now
                    watch(self._progress)
                    if timeout_seconds is not None and now - started > timeout_seconds:
                        return _too_long(timeout_seconds)
                    if (used := _memory_of(self._pid)) > self._work.memory_bytes:
                        return _too_much(used, self._work.memory_bytes)
                if now - pinged >= ping_seconds:
                    pinged = now
                    with suppress(OSError):
                        self._watch.send(b".")
                for key, events in ready:
                    if key.fileobj is self._watch:
                        self._hear_template()
                    elif key.fileobj == self._log_pipe:
                        if not self._copy_log(log):
                            selector.unregister(self._log_pipe)
                    else:
                        if events & selectors.EVENT_WRITE and not (order := self._send(order)):
                            selector.modify(self._talk, selectors.EVENT_READ)
                        if events & selectors.EVENT_READ and not self._listen():
                            selector.unregister(self._talk)
                if len(self._buffer) > ANSWER_BYTES:
                    return _GARBLED
        while self._listen() and len(self._buffer) <= ANSWER_BYTES and self._answer is None:
            pass
        self._copy_log(log)
        return self._verdict()

    def end(self) -> bool:
        """Have the process ended, if it runs; whether it is known to be gone."""
        with suppress(OSError):
            self._watch.shutdown(socket.SHUT_WR)
        until = time.monotonic() + KILL_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._watch, selectors.EVENT_READ)
            while self._status is None and not self._template_is_gone:
                if (left := until - time.monotonic()) <= 0:
                    return False
                if selector.select(left):
                    self._hear_template()
        if self._status is None and self._pid is not None:
            # The template was killed, and the kernel its child with it; what the child started is left to us.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)
        return True

    def close(self) -> None:
        self._talk.close()
        self._watch.close()
        os.close(self._log_pipe)

    # -- what comes and goes -----------------------------------------------------------------------

    def _order(self) -> memoryview:
        order = {each.name: getattr(self._work, each.name) for each in fields(self._work) if each.name != "report"}
        return memoryview(json.dumps(order, default=_as_json).encode() + b"\n")

    def _send(self, order: memoryview) -> memoryview:
        try:
            return order[self._talk.send(order) :] if order else order
        except BlockingIOError:
            return order
        except OSError:
            return order[:0]  # it has ended; how, the template will say

    def _hear_template(self) -> None:
        message = _receive(self._watch)
        if message is None:
            return
        if not message:
            self._template_is_gone = True
            return
        news = json.loads(message)
        self._pid = news.get("pid", self._pid)
        self._status = news.get("status")

    def _listen(self) -> bool:
        """Take in what the process says; False when there is no more."""
        data = _receive(self._talk)
        if data is None:
            return self._status is None
        self._buffer += data
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._take(line)
        return bool(data)

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            message = {"garbled": True}
        if "fraction" in message:
            fraction, step = message["fraction"], message.get("step", "")
            if isinstance(fraction, int | float) and math.isfinite(fraction) and isinstance(step, str):
                self._progress = Progress(fraction=min(max(float(fraction), 0.0), 1.0), step=step[:200])
        elif self._answer is None:
            self._answer = message

    def _copy_log(self, log: JobLog) -> bool:
        """Move what was printed into the log, so much at a time that the limits are still looked at."""
        copied = 0
        while copied < _LOG_BYTES_A_TICK:
            try:
                data = os.read(self._log_pipe, MESSAGE_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            log.write(data)
            copied += len(data)
        return True

    def _verdict(self) -> Outcome | JobError:
        if self._status is None:
            return JobError(type="TemplateLost", message="the process that starts attempts was ended; tried again")
        if self._status == -signal.SIGXFSZ and (limit := self._work.file_bytes) is not None:
            return JobError(
                type=FILE_TOO_LARGE,
                message=f"the work wrote a file of more than {limit >> 20} MiB; raise SLOT_FILE_BYTES",
            )
        if self._status < 0:
            name = (
                signal.Signals(-self._status).name if -self._status in set(signal.Signals) else str(-self._status)
            )
            return JobError(
                type=f"KilledBy{name}", message=f"the work's process was ended by {name}; see the job's log"
            )
        if self._answer is None:
            return JobError(
                type="ProcessEnded",
                message=f"the work's process ended with status {self._status} and no outcome; see the job's log",
            )
        return _outcome(self._answer.get("outcome")) or _error(self._answer.get("error")) or _GARBLED


def _receive(end: socket.socket) -> bytes | None:
    """What has come; None where nothing has yet, empty where nothing will."""
    for _ in range(2):
        try:
            return end.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            # Said before what was sent, if the other side closed without reading all of ours: look behind it.
            continue
        except OSError:
            break
    return b""


# -- why it failed ---------------------------------------------------------------------------------

_GARBLED = JobError(type="GarbledOutcome", message="what the work's process said of its end cannot be understood")


def _too_long(seconds: float) -> JobError:
    return JobError(type="TimeOut", message=f"the work was not done after its time-out of {seconds:g} s")


def _too_much(used: int, limit: int) -> JobError:
    return JobError(
        type=OUT_OF_MEMORY,
        message=f"the work held {used >> 20} MiB of memory and may hold {limit >> 20}; raise SLOT_MEMORY_BYTES",
    )


def _outcome(said: object) -> Outcome | None:
    match said:
        case {
            "result": dict() as result,
            "publish": list() as publish,
            "form": dict() | None as form,
            "sensor": str() | None as sensor,
            "arrival": arrives,
        } if all(isinstance(name, str) for name in publish):
            arrival = _arrival(arrives)
            if arrival is _WRONG:
                return None
            return Outcome(result=result, publish=tuple(publish), form=form, sensor=sensor, arrival=arrival)
        case _:
            return None


_WRONG = Arrival(folder="", at="", listing="")


def _arrival(said: object) -> Arrival | None:
    match said:
        case None:
            return None
        case {
            "folder": str(folder),
            "at": str(at),
            "listing": str(listing),
            "archive": str() | None as archive,
            "kept": bool(kept),
        }:
            return Arrival(folder=folder, at=at, listing=listing, archive=archive, kept=kept)
        case _:
            return _WRONG


def _error(said: object) -> JobError | None:
    match said:
        case {"type": str(kind), "message": str(message), "permanent": bool(permanent)}:
            return JobError(type=kind[:100], message=" ".join(message.split())[:2000], permanent=permanent)
        case _:
            return None


def _as_json(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


# -- memory ----------------------------------------------------------------------------------------


def _memory_of(pid: int | None) -> int:
    """Anonymous memory of the process and of what it started, in bytes; 0 where the system does not tell.

    Not its address space, which tensorstore maps far beyond what it uses, and not what the page cache holds.
    """
    if pid is None:
        return 0
    total = 0
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                total = int(line.split()[1]) * 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(_memory_of(int(started)) for started in (task / "children").read_text().split())
    return total
