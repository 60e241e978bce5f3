"""Files broken at every kind of place: each is refused in words that name it, and none does any harm.

Bits that are flipped in pixels make other pixels; such a file is converted, as any other.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import broken_files
import pytest

LONG = [pytest.param(first, 50, marks=pytest.mark.long) for first in range(0, 500, 50)]


@pytest.mark.parametrize(("first", "count"), [(1000, 30), *LONG])
def test_broken_files_end_in_words_and_leave_nothing(first: int, count: int, data: Path, tmp_path: Path) -> None:
    command = [sys.executable, broken_files.__file__, str(data), str(tmp_path / "fuzz"), str(first), str(count)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=3000)
    ended = [json.loads(line) for line in run.stdout.splitlines()]

    assert [each["number"] for each in ended] == list(range(first, first + count))
    wrong = [each for each in ended if each["ending"] != "converted" and not each["ending"].startswith("refused: ")]
    assert wrong == []
    refused = [each for each in ended if each["ending"] != "converted"]
    assert len(refused) > count // 3, "the fuzzer breaks too little"
