"""Real files broken by a seeded fuzzer, each converted in a process of its own under limits.

    python broken_files.py DATA FOLDER FIRST COUNT

Prints a line of JSON for each: what was done to which file, and how its conversion ended.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

MEMORY_BYTES = 3 << 30
PATIENCE_SECONDS = 150
_LARGEST = 5_000_000
_EXTREMES = (
    b"\xff" * 4,
    b"\0" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\xff" * 8,
    b"\0" * 8,
    b"\1" + b"\0" * 7,
)


def sources(data: Path) -> list[Path]:
    """The real files; of a series of many alike, one."""
    found = []
    for path in sorted(data.rglob("*")):
        alike = (
            path.parent.name == "series" and path.name.startswith("raw_") and not path.name.endswith("00049.tiff")
        )
        if path.is_file() and path.suffix not in (".md", ".bin") and path.stat().st_size <= _LARGEST and not alike:
            found.append(path)
    return found


# -- what is done to a file ------------------------------------------------------------------------


def truncated(content: bytearray, chance: random.Random) -> bytearray:
    """Cut off: anywhere, within the header, or just before the end."""
    size = len(content)
    places = (chance.randrange(size), chance.randrange(min(size, 4096)), size - 1 - chance.randrange(min(size, 64)))
    return content[: chance.choice(places)]


def flipped(content: bytearray, chance: random.Random) -> bytearray:
    """Some bits are another, half of the time near the beginning, where headers are."""
    reach = min(len(content), chance.choice((512, 8192, len(content))))
    for _ in range(chance.choice((1, 4, 32, 200))):
        content[chance.randrange(reach)] ^= 1 << chance.randrange(8)
    return content


def exaggerated(content: bytearray, chance: random.Random) -> bytearray:
    """Numbers as large or small as they can be: dimensions, offsets, counts."""
    reach = min(len(content), chance.choice((256, 4096, len(content))))
    for _ in range(chance.choice((1, 2, 8))):
        extreme = chance.choice(_EXTREMES)
        at = chance.randrange(reach) // 2 * 2
        content[at : at + len(extreme)] = extreme
    return content


def blanked(content: bytearray, chance: random.Random) -> bytearray:
    """A block of zeros, as where a transfer was interrupted or a disk failed."""
    at, length = chance.randrange(len(content)), chance.choice((16, 512, 65536))
    content[at : at + length] = bytes(len(content[at : at + length]))
    return content


def shuffled(content: bytearray, chance: random.Random) -> bytearray:
    """A piece of the file over another."""
    length = min(len(content) // 2, chance.choice((8, 64, 4096)))
    source, target = chance.randrange(len(content) - length), chance.randrange(len(content) - length)
    content[target : target + length] = content[source : source + length]
    return content


WAYS: tuple[Callable[[bytearray, random.Random], bytearray], ...] = (
    truncated,
    flipped,
    exaggerated,
    blanked,
    shuffled,
)


def broken(number: int, data: Path, folder: Path) -> tuple[Path, str, str]:
    """The broken file `number` in a folder of its own, with its companions; how it was broken; its sensor.

    Every file and every way comes up in turn.
    """
    files = sources(data)
    chance = random.Random(number)
    original = files[number % len(files)]
    way = WAYS[number // len(files) % len(WAYS)]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if original.suffix == ".idx":
        shutil.copytree(original.with_suffix(""), folder / original.stem)
    path = folder / original.name
    path.write_bytes(way(bytearray(original.read_bytes()), chance))
    # Now and then somebody names a sensor, rightly or not.
    sensor = chance.choice(("auto", "auto", "auto", "TIFF", "HDF5", "NETCDF", "RGB", "IDX", "OTHER"))
    return path, f"{original.relative_to(data)} {way.__name__}", sensor


# -- how it ends -----------------------------------------------------------------------------------


def ending_of(path: Path, sensor: str, output: Path) -> str:
    """How the conversion of `path` ends, in a process of its own: `converted`, `refused: …`, or what is wrong."""
    output.mkdir()
    mouth, ear = os.pipe()[::-1]
    child = os.fork()
    if not child:
        os.close(ear)
        _convert(path, sensor, output, mouth)
    os.close(mouth)
    with os.fdopen(ear, "rb") as said:
        word = said.read().decode()
    _, status = os.waitpid(child, 0)
    left = [each.name for each in output.iterdir() if each.name != "form"]
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return f"hangs: {PATIENCE_SECONDS} s" if name == "SIGALRM" else f"dies by {name}"
    if left or (word != "converted" and any(output.iterdir())):
        return f"leaves {left or 'a form'} behind: {word}"
    return word


def _convert(path: Path, sensor: str, output: Path, mouth: int) -> None:
    from scientistcloud.errors import CallersMistake, SourceError
    from scientistcloud.tasks.conversion import convert

    os.setsid()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries in C print
    signal.alarm(PATIENCE_SECONDS)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        convert(path.parent, output / "form", sensor=sensor)
        word = "converted"
    except SourceError as refused:
        text = " ".join(str(refused).split())
        named = any(each.stem in text for each in (path.parent, *path.parent.rglob("*")))
        word = f"refused: {text}" if named else f"does not name the file: {text}"
    except CallersMistake as refused:  # a sensor that nobody can read it as
        word = f"refused: {refused}"
    except BaseException as failed:  # noqa: BLE001  that is what is looked for
        where = traceback.extract_tb(failed.__traceback__)[-1]
        text = " ".join(str(failed).split())[:200]
        word = f"unforeseen {type(failed).__name__} at {Path(where.filename).name}:{where.lineno}: {text}"
    os.write(mouth, word.encode()[:4000])
    os._exit(0)


def main() -> None:
    data, folder = Path(sys.argv[1]), Path(sys.argv[2])
    first, count = map(int, sys.argv[3:])
    import scientistcloud.converters.formats.hdf5.reader
    import scientistcloud.converters.formats.netcdf.reader
    import scientistcloud.converters.formats.photographs.reader
    import scientistcloud.converters.formats.tiff.reader
    import scientistcloud.tasks.conversion  # noqa: F401  each child is forked with all of it

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for number in range(first, first + count):
        path, what, sensor = broken(number, data, folder / "source")
        shutil.rmtree(folder / "output", ignore_errors=True)
        ending = ending_of(path, sensor, folder / "output")
        print(json.dumps({"number": number, "what": what, "sensor": sensor, "ending": ending}), flush=True)


if __name__ == "__main__":
    main()
