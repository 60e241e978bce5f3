"""Simulate an installation for many seeds; a seed that breaks a promise prints itself, and how to see it again.

python tests/simulation/simulate.py mongo 0:2000
python tests/simulation/simulate.py sqlite 17 --trace
python tests/simulation/simulate.py mongo 3 --each-step      dies once at each single step of the seed
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import logging
import os
import random
import sys
import tempfile
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from simulated_mongo import MongoSite
from simulated_site import Shared, Site
from simulated_sqlite import SqliteSite, SteppedDatabase
from simulated_world import Faults, World

Make = Callable[[World], Shared]


@contextlib.contextmanager
def databases(kind: str) -> Iterator[Make]:
    if kind == "mongo":
        yield MongoSite
        return
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        database = SteppedDatabase(Path(folder, "scientistcloud.db"))
        try:
            yield lambda world: SqliteSite(world, database)
        finally:
            database.close()


def run(seed: int, make: Make, *, faults: Faults | None = None, small: bool = False) -> World:
    """The world after all has happened; raises `Violation`."""
    dice = random.Random(seed)
    if faults is None:
        faults = Faults(
            crash=dice.choice((0.0, 0.002, 0.01)),
            hang=dice.choice((0.0, 0.001, 0.005)),
            silence=dice.choice((0.0, 0.0, 0.003)),
            at_most=dice.choice((0, 3, 8)),
        )
    world = World(seed, faults)
    random.seed(seed)  # the jitter of pauses
    uuid.uuid4 = lambda: uuid.UUID(int=world.dice.getrandbits(128), version=4)
    shared = make(world)
    try:
        site = Site(world, shared)
        if small:
            site.run(conversions=1, others=1, workers=2, meddles=1)
        else:
            site.run(conversions=dice.choice((1, 2, 3)), others=3, workers=dice.choice((1, 2, 3)), meddles=3)
    except BaseException:
        world.end()
        print("\n".join(world.told[-400:]), file=sys.stderr)
        raise
    finally:
        shared.close()
    return world


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["mongo", "sqlite"])
    parser.add_argument("seeds", help="one, or BEGIN:END")
    parser.add_argument("--each-step", action="store_true")
    parser.add_argument("--trace", action="store_true")
    asked = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is a part of the story
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"PYTHONHASHSEED": "0"})
    logging.getLogger("scientistcloud").setLevel(logging.ERROR)
    logging.getLogger("scientistcloud").propagate = False
    begin, _, end = asked.seeds.partition(":")
    seeds = range(int(begin), int(end) if end else int(begin) + 1)
    runs = steps = 0
    story = hashlib.sha256()
    with databases(asked.kind) as make:
        for seed in seeds:
            one_by_one: list[Faults | None] = [None]
            if asked.each_step:
                whole = run(seed, make, faults=Faults(), small=True)
                one_by_one = [Faults(crash_at=number) for number in range(1, whole.steps + 1)]
            for faults in one_by_one:
                try:
                    world = run(seed, make, faults=faults, small=asked.each_step)
                except BaseException:  # noqa: BLE001  # told, whatever it is
                    traceback.print_exc()
                    where = "" if faults is None else f" (killed at step {faults.crash_at})"
                    print(f"FAILED: {Path(__file__).name} {asked.kind} {seed}{where}; run it again with --trace")
                    return 1
                runs, steps = runs + 1, steps + world.steps
                if seed == seeds[0]:
                    story.update("\n".join(world.told).encode())
                if asked.trace:
                    print("\n".join(world.told))
    print(f"the story of {seeds[0]} is {story.hexdigest()}")
    print(f"{runs} runs of {asked.kind}, {steps} steps: every promise was kept")
    return 0


if __name__ == "__main__":
    sys.exit(main())
