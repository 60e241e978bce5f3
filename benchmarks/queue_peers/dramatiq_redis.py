"""Dramatiq on Redis, by a worker of one thread."""

from __future__ import annotations

import threading
from functools import cache

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from protocol import Create, main, report


@cache
def opened(where: str) -> tuple[RedisBroker, dramatiq.Actor]:
    broker = RedisBroker(url=where)
    dramatiq.set_broker(broker)
    return broker, dramatiq.actor(report, broker=broker)


def creator(where: str) -> Create:
    _, actor = opened(where)
    return lambda began: actor.send(began)


def work(where: str) -> None:
    broker, _ = opened(where)
    dramatiq.Worker(broker, worker_threads=1).start()
    threading.Event().wait()


if __name__ == "__main__":
    main("dramatiq", creator=creator, work=work)
