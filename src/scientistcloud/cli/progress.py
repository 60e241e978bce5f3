"""A progress bar on standard error, where that is a terminal."""

from __future__ import annotations

import time
from typing import Self


class Bar:
    """Bytes on their way, then what becomes of them."""

    def __init__(self, description: str, total_bytes: int | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.progress import TransferSpeedColumn as Speed

        self._console = Console(stderr=True)
        self._bytes = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            Speed(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bytes.add_task(description, total=total_bytes)
        self._said = ("", 0.0)

    def __enter__(self) -> Self:
        self._bytes.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bytes.stop()

    def advance(self, size_bytes: int) -> None:
        self._bytes.advance(self._task, size_bytes)

    def expect(self, total_bytes: int) -> None:
        """So many it will be."""
        self._bytes.update(self._task, total=total_bytes)

    def say(self, trouble: str) -> None:
        """What keeps it waiting: once, not at every look."""
        said, when = self._said
        if trouble != said or time.monotonic() - when > 30:
            self._said = (trouble, time.monotonic())
            self._console.print(
                f"waiting: {trouble}", style="yellow", highlight=False, markup=False, soft_wrap=True
            )


class WorkBar:
    """A job on its way: its step and how far it is."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        self._work = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._work.add_task("waiting", total=1.0)

    def __enter__(self) -> Self:
        self._work.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._work.stop()

    def show(self, status: str, step: str, fraction: float) -> None:
        self._work.update(self._task, description=f"{status}: {step}" if step else status, completed=fraction)
