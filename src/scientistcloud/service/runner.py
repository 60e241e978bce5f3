"""One attempt in a process of its own: started, listened to, held to its limits, and ended.

::

    service ──control──> template ──fork──> the attempt's process
       │ │────watch─────────┘                   │  │
       │ └────talk──────────────────────────────┘  │     progress and the end, a line of JSON each
       └──────log──────────────────────────────────┘     whatever it prints

`watch` keeps the process alive: the template ends it when the service closes its side, dies, or sends nothing
for `silence_seconds`. Nothing that the process says is trusted: each of its lines is bounded and checked.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scientistcloud.errors import BrokenPlugin, Unavailable
from scientistcloud.logs import facts
from scientistcloud.records import JobError
from scientistcloud.service.joblog import JobLog
from scientistcloud.service.process import KILL_SECONDS, MESSAGE_BYTES, Process, Watch
from scientistcloud.tasks.contract import Outcome, Work

logger = logging.getLogger(__name__)

_START_SECONDS = 120.0
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "BLIS_NUM_THREADS"), "1"
)


class Runner:
    """Runs attempts, several at once from as many threads; keeps the template alive.

    `tasks`: ``module:attribute`` of each task, None for every one that installed packages offer.
    """

    def __init__(self, *, tasks: Sequence[str] | None = None, silence_seconds: float) -> None:
        self._tasks = None if tasks is None else list(tasks)
        self._path = [path or str(Path.cwd()) for path in sys.path]
        self._silence_seconds = silence_seconds
        self._ping_seconds = min(silence_seconds / 4, 1.0)
        self._lock = threading.Lock()
        self._template: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        #: Known once started.
        self.job_types: tuple[str, ...] = ()
        self.sensors: tuple[str, ...] = ()

    def start(self) -> None:
        """Start the template, unless it runs. Raises `BrokenPlugin`, `Unavailable`."""
        with self._lock:
            self._running_template()

    def stop(self) -> None:
        """End the template, and with it every attempt."""
        with self._lock:
            self._end_template()

    def run(
        self, work: Work, *, log: JobLog, timeout_seconds: float | None = None, watch: Watch
    ) -> Outcome | JobError:
        """Run one attempt to its end; what it made, or why it failed. ``work.report`` is not used.

        The process, and what it started, is gone when this returns or raises. Raises what `watch` raises, and
        `Unavailable` where no process can be started.
        """
        with self._started(work) as attempt:
            return attempt.follow(
                log, timeout_seconds=timeout_seconds, ping_seconds=self._ping_seconds, watch=watch
            )

    @contextmanager
    def _started(self, work: Work) -> Iterator[Process]:
        """A process that works; it has ended when the block has."""
        talk, childs_talk = socket.socketpair()
        watch, templates_watch = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        log, childs_log = os.pipe()
        attempt = Process(work, talk, watch, log)
        try:
            try:
                with self._lock:
                    control = self._running_template()
                    socket.send_fds(
                        control, [b"start"], [childs_talk.fileno(), templates_watch.fileno(), childs_log]
                    )
            except OSError as gone:
                raise Unavailable(f"the template process cannot be used: {gone}; it is started again") from gone
            finally:
                childs_talk.close()
                templates_watch.close()
                os.close(childs_log)
            yield attempt
        finally:
            if not attempt.end():
                logger.error(
                    "template does not answer, it is ended%s",
                    facts(dataset_uuid=work.dataset_uuid, job_id=work.job_id),
                )
                self.stop()
            attempt.close()

    # -- the template ------------------------------------------------------------------------------

    def _running_template(self) -> socket.socket:
        if self._template is not None and self._control is not None and self._template.poll() is None:
            return self._control
        self._end_template()
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Settings can hold passwords, and what reads strangers' files needs none of them.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SCIENTISTCLOUD_")} | _ONE_THREAD
        with theirs:
            self._template = subprocess.Popen(  # noqa: S603  our own module
                [sys.executable, "-m", "scientistcloud.service.template", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment | {"PYTHONPATH": os.pathsep.join(self._path)},
                # A signal to the service's group must not end the one that cleans up after it.
                start_new_session=True,
            )
        self._control = control
        control.settimeout(_START_SECONDS)
        try:
            hello = {"tasks": self._tasks, "path": self._path, "silence_seconds": self._silence_seconds}
            control.send(json.dumps(hello).encode())
            answer = json.loads(control.recv(MESSAGE_BYTES) or b'{"broken": "the template process ended"}')
        except (OSError, ValueError) as failed:
            self._end_template()
            raise Unavailable(f"the template process does not start: {failed}") from failed
        if "broken" in answer:
            self._end_template()
            raise BrokenPlugin(answer["broken"])
        self.job_types, self.sensors = tuple(answer["job_types"]), tuple(answer["sensors"])
        logger.info("template started pid=%d job_types=%s", self._template.pid, ",".join(self.job_types))
        return control

    def _end_template(self) -> None:
        if self._control is not None:
            self._control.close()  # it ends what runs, then itself
            self._control = None
        if self._template is not None:
            try:
                self._template.wait(KILL_SECONDS)
            except subprocess.TimeoutExpired:
                self._template.kill()  # its children die with it
                self._template.wait()
            self._template = None
