"""A task whose work the tests choose by the parameter `does`; run by real services in real processes."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from scientistcloud.errors import UnreadableSource
from scientistcloud.layout import CONVERTED, QUICKLOOK
from scientistcloud.tasks.contract import Outcome, Work


class Trial:
    """A `dataset_conversion` that writes a small form, or goes wrong on the way as it is told."""

    job_type = "dataset_conversion"

    def run(self, work: Work) -> Outcome:
        return getattr(self, str(work.parameters.get("does", "convert")))(work)  # type: ignore[no-any-return]

    def convert(self, work: Work) -> Outcome:
        """Write 20 files with the job's id in them, in `seconds`."""
        form = work.output / CONVERTED
        form.mkdir()
        pieces = 20
        for piece in range(pieces):
            if piece == pieces // 2 and work.parameters.get("does") in ("hold", "with_children"):
                self._say_and_wait(work)
            (form / f"{piece}").write_text(work.job_id)
            work.report(piece / pieces, f"piece {piece} of {pieces}")
            time.sleep(float(work.parameters.get("seconds", 0)) / pieces)
        return Outcome(result={"pieces": pieces}, publish=(CONVERTED,), form={"path": CONVERTED}, sensor="TIFF")

    def hold(self, work: Work) -> Outcome:
        """In the middle, say which process this is, then hold on until the file `go` is beside the sources."""
        return self.convert(work)

    def _say_and_wait(self, work: Work) -> None:
        started = work.source.parent / f"started.{work.token}"
        started.with_suffix(".new").write_text(str(os.getpid()))
        started.with_suffix(".new").rename(started)
        while not (work.source.parent / "go").exists():
            time.sleep(0.01)

    def quick(self, work: Work) -> Outcome:
        """Give a quick look before anything else, then hold on."""
        made = work.output / "made"
        made.mkdir()
        (made / "zarr.json").write_text(str(work.token))
        made.rename(work.output / QUICKLOOK)
        work.report(0.01, "writing image")
        self._say_and_wait(work)
        return self.convert(work)

    def with_children(self, work: Work) -> Outcome:
        """Start a process of its own, which knows nothing of services, then hold on."""
        beside = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (work.source.parent / "beside.new").write_text(str(beside.pid))
        (work.source.parent / "beside.new").rename(work.source.parent / "beside")
        return self.hold(work)

    def deaf(self, work: Work) -> Outcome:
        """Ignore every signal that can be ignored, and keep the interpreter busy."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        (work.source.parent / f"started.{work.token}").write_text(str(os.getpid()))
        10 ** (10**9)
        return Outcome()

    def read_damaged(self, work: Work) -> Outcome:
        raise UnreadableSource("scan_07.tif ends after 3 of 12 pages;\nupload it again")

    def fail(self, work: Work) -> Outcome:
        msg = "the file server hung up"
        raise ConnectionError(msg)

    def fail_once(self, work: Work) -> Outcome:
        tried = work.source.parent / "tried"
        if not tried.exists():
            tried.touch()
            return self.fail(work)
        return self.convert(work)

    def fill_the_disk(self, work: Work) -> Outcome:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_much(self, work: Work) -> Outcome:
        """Write 64 MiB, then the form."""
        with (work.output / "much").open("wb") as file:
            for _ in range(64):
                file.write(b"\1" * 2**20)
        return self.convert(work)

    def crash(self, work: Work) -> Outcome:
        os.kill(os.getpid(), signal.SIGSEGV)
        return Outcome()

    def exit(self, work: Work) -> Outcome:
        os._exit(3)

    def allocate(self, work: Work) -> Outcome:
        """Take memory in small pieces, so that it is seen to grow."""
        held = []
        while True:
            held.append(bytearray(os.urandom(1) * 2**20))
            time.sleep(0.001)

    def allocate_at_once(self, work: Work) -> Outcome:
        return Outcome(result={"length": len(bytearray(2**40))})

    def print_much(self, work: Work) -> Outcome:
        print("the first line")
        for _ in range(300):
            os.write(1, b"x" * 2**16)
        print("\nthe last line")
        return self.convert(work)

    def print_for_ever(self, work: Work) -> Outcome:
        while True:
            os.write(2, b"\x00\xff" * 2**15)

    def talk_much(self, work: Work) -> Outcome:
        """Send what no honest task sends, on the socket to the service: half of it without an end."""
        talk = _socket_to_the_service()
        while True:
            os.write(talk, b"[" * 2**16)

    def talk_nonsense(self, work: Work) -> Outcome:
        os.write(
            _socket_to_the_service(),
            b'\xff\xfe\n[1, 2]\n{"fraction": "all"}\n{"fraction": 1e400, "step": 3}\n{"outcome": {"publish": 7}}\n',
        )
        os._exit(0)

    def report_nonsense(self, work: Work) -> Outcome:
        work.report(-5, "x" * 10_000)
        time.sleep(0.3)
        return Outcome(
            result={"cwd": str(Path.cwd()), "settings": _settings(), "group": os.getpgid(0) == os.getpid()}
        )

    def answer_much(self, work: Work) -> Outcome:
        return Outcome(result={"pixels": "7" * 2**21})

    def answer_no_json(self, work: Work) -> Outcome:
        return Outcome(result={"path": Path()})

    def publish_what_is_not_there(self, work: Work) -> Outcome:
        return Outcome(publish=("nothing",), form={"path": "nothing"})


class OtherTrial(Trial):
    """The same as another job type."""

    job_type = "file_extraction"


def _settings() -> list[str]:
    return [name for name in os.environ if name.startswith("SCIENTISTCLOUD_")]


def _socket_to_the_service() -> int:
    """Found as something hostile would find it."""
    for number in range(3, 100):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                return number
    raise AssertionError


def read_pid(path: Path) -> int:
    """The process that `hold` or `with_children` named."""
    return int(json.loads(path.read_text()))
