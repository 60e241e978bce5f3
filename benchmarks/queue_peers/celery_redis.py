"""Celery on Redis, acknowledging late, by a worker without a pool of processes."""

from __future__ import annotations

from functools import cache
from typing import Any

from celery import Celery
from protocol import Create, main, report


@cache
def opened(where: str) -> tuple[Celery, Any]:
    app = Celery("bench", broker=where)
    app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, task_ignore_result=True)
    return app, app.task(name="work")(report)


def creator(where: str) -> Create:
    _, task = opened(where)
    return lambda began: task.delay(began)


def work(where: str) -> None:
    app, _ = opened(where)
    app.worker_main(["worker", "--pool=solo", "--loglevel=ERROR", "--without-gossip", "--without-mingle"])


if __name__ == "__main__":
    main("celery", creator=creator, work=work)
