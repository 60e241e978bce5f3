"""A program that reads every file that it is told of on standard input, and says how each ended."""

from __future__ import annotations

import math
import os
import resource
import sys
import traceback
from pathlib import Path

from scientistcloud.converters.registry import open_source
from scientistcloud.errors import SourceError
from scientistcloud.testing.converters import whole


def outcome(path: Path) -> str:
    try:
        reader = open_source(path)
        try:
            for number, image in enumerate(reader.describe().images):
                if math.prod(image.shape) < 1 << 24:
                    reader.read(number, whole(image))
        finally:
            reader.close()
    except SourceError as refused:
        named = path.name in str(refused) and "\n" not in str(refused)
        return f"refused {type(refused).__name__}" if named else f"UNCLEAR {refused!r}"
    except BaseException as wrong:  # noqa: BLE001 - that there is none is what is tested
        return f"WRONG {wrong!r} {traceback.format_exc()!r}"
    return "read"


if __name__ == "__main__":
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # decoders in C print what they think
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    for line in sys.stdin:
        print(f"{line.strip()}\t{outcome(Path(line.strip()))}", file=told, flush=True)
