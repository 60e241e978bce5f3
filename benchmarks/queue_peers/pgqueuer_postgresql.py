"""PGQueuer on PostgreSQL, by asyncpg, its quickest driver; synchronous enqueuers by psycopg."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from datetime import timedelta

import asyncpg
import psycopg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, SyncPsycopgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries, SyncQueries
from protocol import Create, main, report

_MOMENT = struct.Struct("<d")


def prepare(where: str) -> None:
    async def install() -> None:
        await Queries(AsyncpgDriver(await asyncpg.connect(where))).install()

    asyncio.run(install())


def creator(where: str) -> Create:
    # Each thread has a connection of its own.
    queries = SyncQueries(SyncPsycopgDriver(psycopg.connect(where, autocommit=True)))
    return lambda began: queries.enqueue("work", _MOMENT.pack(began))


def creator_of_many(where: str) -> Callable[[int], object]:
    queries = SyncQueries(SyncPsycopgDriver(psycopg.connect(where, autocommit=True)))
    return lambda number: queries.enqueue(["work"] * number, [_MOMENT.pack(0.0)] * number, [0] * number)


def work(where: str, batch: int = 1) -> None:
    async def on_and_on() -> None:
        queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(where)))

        @queue.entrypoint("work")
        async def at_work(job: Job) -> None:
            report(_MOMENT.unpack(job.payload or b"")[0])

        await queue.run(batch_size=batch, dequeue_timeout=timedelta(seconds=30))

    asyncio.run(on_and_on())


if __name__ == "__main__":
    main(
        "pgqueuer",
        creator=creator,
        creator_of_many=creator_of_many,
        work=work,
        work_in_batches=work,
        prepare=prepare,
    )
