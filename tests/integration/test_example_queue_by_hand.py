"""The example program of the queue does what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "queue_by_hand.py"


def test_the_example_runs_and_ends_in_order() -> None:
    ran = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=120, check=True)

    lines = ran.stdout.splitlines()
    assert lines[0] == "created twice, the same job: True"
    assert lines[-1] == "all in order: True"
    assert any(line.startswith("refused: job") for line in lines)
    assert any("lost by a worker that dies, completed by worker" in line for line in lines)
