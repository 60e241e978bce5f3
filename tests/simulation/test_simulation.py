"""Whole installations in a simulated world: some hundreds of seeds here, thousands in `make test-long`.

Each in a process of its own with a fixed order of sets, so that a seed tells the same story everywhere; the program
names the seed that broke a promise, and ``python tests/simulation/simulate.py KIND SEED`` shows it again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("simulate.py")
CHUNK = 1250


def simulate(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        env=os.environ | {"PYTHONHASHSEED": "0"},  # as the program wants it: it need not start itself again
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-8000:]}"
    return done.stdout


@pytest.mark.parametrize("kind", ["mongo", "sqlite"])
def test_processes_that_die_hang_and_hear_nothing_break_no_promise(kind: str) -> None:
    told = simulate(kind, "7:87")

    assert "80 runs" in told
    again = simulate(kind, "7", "--trace")
    assert "killed at" in again
    assert told.splitlines()[0] == again.splitlines()[-2], "a seed told another story the second time"


@pytest.mark.long
@pytest.mark.parametrize("begin", range(1000, 1000 + 6 * CHUNK, CHUNK))
def test_thousands_of_seeds_break_no_promise_on_a_server(begin: int) -> None:
    assert f"{CHUNK} runs" in simulate("mongo", f"{begin}:{begin + CHUNK}")


@pytest.mark.long
@pytest.mark.parametrize("begin", range(1000, 1000 + 3 * CHUNK, CHUNK))
def test_thousands_of_seeds_break_no_promise_on_one_file(begin: int) -> None:
    assert f"{CHUNK} runs" in simulate("sqlite", f"{begin}:{begin + CHUNK}")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["mongo", "sqlite"])
def test_a_process_may_die_at_each_single_step(kind: str) -> None:
    assert "every promise was kept" in simulate(kind, "1", "--each-step")
