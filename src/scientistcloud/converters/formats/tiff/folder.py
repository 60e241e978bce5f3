"""Which files of a folder are the slices of one stack, by their names."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from scientistcloud.converters.names import natural


@dataclass(frozen=True, slots=True)
class Family:
    """Files whose names differ in a number, in its order."""

    #: `raw_*.tiff`.
    label: str
    files: tuple[Path, ...]
    #: Numbers that are missing, in a sentence; "" where none is.
    gaps: str = ""


def families(paths: Sequence[Path], root: Path) -> tuple[list[Family], list[Path]]:
    """Families of at least two files, and the files that stand alone.

    Names that differ in several numbers (`t2_z17.tif`) are a family for each value of all but the last.
    """
    alike: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path in paths:
        alike[tuple(_tokens(path, root)[::2])].append(path)
    found: list[Family] = []
    alone: list[Path] = []
    for texts, members in alike.items():
        numbers = [_tokens(path, root)[1::2] for path in members]
        varying = [column for column in range(len(texts) - 1) if len({int(each[column]) for each in numbers}) > 1]
        if len(members) == 1 or not varying:
            alone += members
            continue
        groups: dict[tuple[str, ...], list[Path]] = defaultdict(list)
        for path, each in zip(members, numbers, strict=True):
            groups[tuple(each[column] for column in varying[:-1])].append(path)
        if all(len(group) == 1 for group in groups.values()):  # date and time, say
            groups = {(): members}
        for group in groups.values():
            if len(group) == 1:
                alone += group
            else:
                found.append(_family(group, varying[-1], root))
    order = {path: index for index, path in enumerate(paths)}
    return sorted(found, key=lambda each: order[each.files[0]]), sorted(alone, key=order.__getitem__)


def _family(members: list[Path], column: int, root: Path) -> Family:
    files = sorted(members, key=lambda path: natural(path.relative_to(root).as_posix()))
    tokens = [_tokens(path, root) for path in files]
    place = 2 * column + 1
    label = "".join([*tokens[0][:place], "*", *tokens[0][place + 1 :]])
    return Family(label, tuple(files), _gaps([int(each[place]) for each in tokens]))


def _gaps(numbers: list[int]) -> str:
    steps = Counter(after - before for before, after in pairwise(numbers))
    step = steps.most_common(1)[0][0]
    if step < 1 or steps[step] * 2 < len(numbers) - 1:
        return ""
    there = set(numbers)
    missing = []
    for before, after in pairwise(numbers):
        if (after - before) // step > 1000:  # another run of numbers, not a gap
            return ""
        missing += [number for number in range(before + step, after, step) if number not in there]
    shown = ", ".join(map(str, missing[:10])) + (" …" if len(missing) > 10 else "")
    return f"{len(missing)} missing ({shown})" if missing else ""


def _tokens(path: Path, root: Path) -> list[str]:
    """Texts and numbers in turn, beginning and ending with a text."""
    return re.split(r"(\d+)", path.relative_to(root).as_posix())
