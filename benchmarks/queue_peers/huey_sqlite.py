"""Huey on SQLite with fsync, by its own consumer of one thread."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

from huey import SqliteHuey
from protocol import Create, main, report


@cache
def opened(where: str) -> tuple[SqliteHuey, Any]:
    huey = SqliteHuey(filename=where, fsync=True)
    return huey, huey.task()(report)


def creator(where: str) -> Create:
    _, task = opened(where)
    return lambda began: task(began)


def work(where: str) -> None:
    huey, _ = opened(where)
    huey.create_consumer(workers=1, periodic=False).start()
    threading.Event().wait()


if __name__ == "__main__":
    main("huey", creator=creator, work=work)
