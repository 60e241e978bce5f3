"""RQ on Redis, by its own worker, which forks for each job."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

from protocol import Create, main, report
from redis import Redis
from rq import Queue, Worker


@cache
def opened(where: str) -> Queue:
    return Queue(connection=Redis.from_url(where))


def creator(where: str) -> Create:
    queue = opened(where)
    return lambda began: queue.enqueue(report, began)


def creator_of_many(where: str) -> Callable[[int], object]:
    queue = opened(where)
    return lambda number: queue.enqueue_many([Queue.prepare_data(report, (0.0,)) for _ in range(number)])


def work(where: str) -> None:
    queue = opened(where)
    Worker([queue], connection=queue.connection).work(logging_level=logging.WARNING)


if __name__ == "__main__":
    main("rq", creator=creator, creator_of_many=creator_of_many, work=work)
