"""A world of processes that a seed decides: who goes on at each step, who dies there, who hangs, what time it is.

Each process is a greenlet. `World.step` is called around everything that others could come between; there, and in
`World.sleep`, another may go on, or this one may end as a killed one does. Nothing waits for a real clock, so
a day of the queue takes milliseconds, and a seed always tells the same story.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from greenlet import getcurrent, greenlet

from scientistcloud.testing.clock import ManualClock

_STEP_SECONDS = 0.001
_RESTART_SECONDS = (0.0, 0.5, 3.0)
_HANG_SECONDS = (5.0, 31.0, 45.0, 200.0)  # a lease is 30 s


class Crash(BaseException):
    """This process is killed; no handler of `Exception` sees it."""


class Violation(Exception):
    """A promise was broken."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What may happen at each step."""

    crash: float = 0.0
    hang: float = 0.0
    #: The database does not answer, before or after it has done what it was asked for.
    silence: float = 0.0
    change: float = 0.3
    #: So many in all, and for so long; then everything goes well.
    at_most: int = 0
    seconds: float = 300.0
    #: Instead of by chance: at the step of this number, and nowhere else.
    crash_at: int | None = None


@dataclass(eq=False, slots=True)
class Process:
    """One process, or its successor after a crash."""

    name: str
    run: Callable[[str], None]
    wakes_at: float = 0.0
    lives: int = 1
    greenlet: greenlet = field(init=False)


class World:
    """The processes, the clock and the dice of one seed."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.seed = seed
        self.dice = random.Random(seed)
        self.clock = ManualClock()
        self.faults = faults
        self.steps = 0
        self.told: list[str] = []
        self._left = faults.at_most
        self._processes: list[Process] = []
        self._current: Process | None = None
        self._began = self.clock.monotonic()
        self._failure: BaseException | None = None
        self._over = False

    @property
    def seconds(self) -> float:
        """Since the world began."""
        return self.clock.monotonic() - self._began

    @property
    def calm(self) -> bool:
        """No more faults will happen."""
        if self.faults.crash_at is not None:
            return self.steps > self.faults.crash_at
        return self._left <= 0 or self.seconds > self.faults.seconds

    def start(self, name: str, run: Callable[[str], None]) -> None:
        """A process that calls ``run(name)``; it is started again under another name whenever it was killed."""
        process = Process(name, run)
        self._processes.append(process)
        self._begin(process)

    def tell(self, what: str) -> None:
        """Note it for whoever reads a failed seed."""
        who = self._current.name if self._current else "-"
        self.told.append(f"{self.seconds:10.3f} {who:12} {what}")

    def run(self, *, until: Callable[[], bool], look_seconds: float, patience_seconds: float) -> None:
        """Until `until` holds, looked at so often; raises `Violation` so long after the last fault."""
        look_at = 0.0
        calm_since: float | None = None
        while True:
            if self.seconds >= look_at:
                look_at = self.seconds + look_seconds
                if self.calm and until():
                    return
                if self.calm and calm_since is None:
                    calm_since = self.seconds
                if calm_since is not None and self.seconds > calm_since + patience_seconds:
                    raise Violation(f"not everything ended within {patience_seconds:.0f} s after the last fault")
            now = self.seconds
            ready = [each for each in self._processes if each.wakes_at <= now]
            if ready:
                self._switch(self.dice.choice(ready))
            else:
                wakes_at = min([look_at, *(each.wakes_at for each in self._processes)])
                self.clock.advance(round(wakes_at - now + _STEP_SECONDS, 3))

    def step(self, what: str, *, others: bool = True) -> None:
        """Something that others could come between. `others` False: only this process's death can."""
        if self._current is None:
            return
        self.steps += 1
        self.clock.advance(_STEP_SECONDS)
        faults = self.faults
        if faults.crash_at is not None:
            if self.steps == faults.crash_at:
                self._die(what)
        elif not self.calm:
            drawn = self.dice.random()
            if drawn < faults.crash:
                self._left -= 1
                self._die(what)
            if others and drawn < faults.crash + faults.hang:
                self._left -= 1
                self._hang(what)
                return
        if others and self.dice.random() < faults.change:
            self._yield()

    def silent(self, what: str) -> bool:
        """Whether the database does not answer here."""
        if self._current is None or self.calm or self.dice.random() >= self.faults.silence:
            return False
        self._left -= 1
        self.tell(f"no answer: {what}")
        return True

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While open, nothing happens to the process: the world itself looks at something."""
        current, self._current = self._current, None
        try:
            yield
        finally:
            self._current = current

    def sleep(self, seconds: float) -> None:
        """The process does nothing for so long."""
        assert self._current is not None
        self._current.wakes_at = self.seconds + round(seconds, 3)
        self._yield()

    # -- details ---------------------------------------------------------------------------------

    def _die(self, what: str) -> None:
        self.tell(f"killed at {what}")
        raise Crash

    def _hang(self, what: str) -> None:
        seconds = self.dice.choice(_HANG_SECONDS)
        self.tell(f"stopped for {seconds:.0f} s at {what}")
        self.sleep(seconds)

    def _yield(self) -> None:
        parent = getcurrent().parent
        assert parent is not None
        parent.switch()

    def _switch(self, process: Process) -> None:
        self._current = process
        try:
            process.greenlet.switch()
        finally:
            self._current = None
        if self._failure is not None:
            raise self._failure

    def _begin(self, process: Process) -> None:
        def live() -> None:
            try:
                process.run(process.name)
                self._processes.remove(process)
            except Crash:
                if self._over:
                    return
                process.lives += 1
                process.name = f"{process.name.partition('#')[0]}#{process.lives}"
                process.wakes_at = self.seconds + self.dice.choice(_RESTART_SECONDS)
                self._begin(process)
            except BaseException as broken:  # noqa: BLE001  # raised again where the world is run
                self._failure = broken

        process.greenlet = greenlet(live)

    def end(self) -> None:
        """Let go of every process where it stands."""
        self._over = True
        for process in self._processes:
            if process.greenlet:  # it has begun
                process.greenlet.throw(Crash)
        self._processes.clear()
