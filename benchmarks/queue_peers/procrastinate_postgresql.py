"""Procrastinate on PostgreSQL, and how long its fetch takes beside jobs that a lock holds back.

PROGRAM blocked WHERE JOBS         seconds of each fetch beside so many: JSON
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable
from functools import cache

import procrastinate
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from protocol import Create, main, report

FETCHES = 100
logging.getLogger("procrastinate").setLevel(logging.ERROR)  # it warns that this is a program


def app_of(connector: procrastinate.BaseConnector) -> tuple[App, procrastinate.tasks.Task]:
    app = App(connector=connector)

    @app.task(name="work", queue="work")
    async def at_work(began: float) -> None:
        report(began)

    return app, at_work


@cache
def opened(where: str) -> procrastinate.tasks.Task:
    app, task = app_of(SyncPsycopgConnector(conninfo=where, max_size=8))
    app.open()
    return task


def prepare(where: str) -> None:
    app, _ = app_of(SyncPsycopgConnector(conninfo=where))
    with app.open():
        app.schema_manager.apply_schema()


def creator(where: str) -> Create:
    task = opened(where)
    return lambda began: task.defer(began=began)


def creator_of_many(where: str) -> Callable[[int], object]:
    task = opened(where)
    return lambda number: task.batch_defer(*({"began": 0.0} for _ in range(number)))


def work(where: str) -> None:
    app, _ = app_of(PsycopgConnector(conninfo=where))

    async def on_and_on() -> None:
        async with app.open_async():
            await app.run_worker_async(queues=["work"], concurrency=1)

    asyncio.run(on_and_on())


def blocked(where: str, jobs: int) -> None:
    app, task = app_of(PsycopgConnector(conninfo=where))

    async def fetch() -> list[float]:
        async with app.open_async():
            worker = await app.job_manager.register_worker()
            await task.configure(lock="one data set").defer_async(began=0.0)
            assert await app.job_manager.fetch_job(None, worker)
            for begin in range(0, jobs, 100):
                many = [{"began": 0.0}] * min(100, jobs - begin)
                await task.configure(lock="one data set").batch_defer_async(*many)
            await app.connector.execute_query_async("ANALYZE procrastinate_jobs")
            took = []
            for number in range(FETCHES):
                await task.configure(lock=f"another {number}").defer_async(began=0.0)
                begin = time.perf_counter()
                job = await app.job_manager.fetch_job(None, worker)
                took.append(time.perf_counter() - begin)
                assert job
                await app.job_manager.finish_job(job, procrastinate.jobs.Status.SUCCEEDED, delete_job=False)
            return took

    print(json.dumps(asyncio.run(fetch())))


if __name__ == "__main__":
    if sys.argv[1] == "blocked":
        blocked(sys.argv[2], int(sys.argv[3]))
    else:
        main("procrastinate", creator=creator, creator_of_many=creator_of_many, work=work, prepare=prepare)
