"""OpenVisus in a process of its own, and how to talk to it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from scientistcloud.errors import UnreadableSource, UnsupportedSource

PROGRAM = f"{__name__}.child"
_HOW = "pip install openvisusnogui; it is made for Linux on x86-64 and for Windows, with Python below 3.14"


class OpenVisusEnded(UnreadableSource):
    """OpenVisus ended its own process, as it does over files that are not what they say."""


def need(what: str) -> None:
    """Raise `UnsupportedSource` where OpenVisus is not installed, saying how it would be."""
    if importlib.util.find_spec("OpenVisus") is None:
        raise UnsupportedSource(f"{what} needs OpenVisus, which is not installed here: {_HOW}")


def library() -> str:
    """Name and version, for the recipe."""
    return f"openvisusnogui {version('openvisusnogui')}"


class OpenVisus:
    """One process with one IDX. Safe from several threads: they are answered one after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # our own program
            [sys.executable, "-P", "-m", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._lock = threading.Lock()
        self._closed = False

    def ask(self, do: str, values: memoryview | None = None, **question: Any) -> tuple[Mapping[str, Any], bytes]:
        """What is answered, and the bytes of values that come with it.

        Raises `UnreadableSource` with OpenVisus' own words where it cannot, `OpenVisusEnded` where it died of it.
        """
        with self._lock:
            if self._closed:
                raise ValueError("the reader is closed")
            size = values.nbytes if values is not None else 0
            stdin, stdout = self._process.stdin, self._process.stdout
            assert stdin is not None
            assert stdout is not None
            try:
                stdin.write(json.dumps({"do": do, "bytes": size, **question}).encode() + b"\n")
                if values is not None:
                    stdin.write(values)
                stdin.flush()
                line = stdout.readline()
                answer = json.loads(line)
                body = stdout.read(answer["bytes"])
            except (BrokenPipeError, ValueError) as gone:
                raise OpenVisusEnded(f"OpenVisus ended over it (status {self._process.wait()})") from gone
        if "error" in answer:
            raise UnreadableSource(str(answer["error"]))
        return answer, body

    def close(self) -> None:
        """End the process."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except BrokenPipeError:
                        continue
            self._process.kill()
            self._process.wait()
