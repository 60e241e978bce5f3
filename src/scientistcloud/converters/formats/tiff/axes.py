"""Which axis of a stack is what: OME has t, c, z, y, x and refuses everything else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import tifffile

from scientistcloud.converters.formats.tiff.stack import Stack
from scientistcloud.omezarr.image import AxisKind

_RANK = {AxisKind.TIME: 0, AxisKind.CHANNEL: 1, AxisKind.CUSTOM: 1, AxisKind.SPACE: 2}


@dataclass(frozen=True, slots=True)
class Meaning:
    """The axes of the images that a stack becomes."""

    #: Axis of the stack, its name and its kind, in the order in which they are written.
    axes: tuple[tuple[int, str, AxisKind], ...]
    #: Axes of the stack that become a series of images, with the names of their letters.
    split: tuple[tuple[int, str], ...]

    @property
    def order(self) -> tuple[int, ...]:
        return tuple(axis for axis, _, _ in self.axes)

    def transposed(self) -> tuple[int, ...] | None:
        """Source axis of each written axis; None where they stay as they are."""
        ranks = {axis: rank for rank, axis in enumerate(sorted(self.order))}
        moved = tuple(ranks[axis] for axis in self.order)
        return None if moved == tuple(range(len(moved))) else moved

    def views(self, stack: Stack) -> Iterator[tuple[str, dict[int, int]]]:
        """A word and the fixed indices for each image of the series; one without a word where nothing is split."""
        rest = {axis: 0 for axis in range(len(stack.shape)) if axis not in self.order}
        for index in product(*(range(stack.shape[axis]) for axis, _ in self.split)):
            chosen = {axis: i for (axis, _), i in zip(self.split, index, strict=True)}
            words = ", ".join(f"{name} {i + 1}" for (_, name), i in zip(self.split, index, strict=True))
            yield words, rest | chosen


def meaning(stack: Stack) -> Meaning:
    """t, c, z, y, x from tifffile's letters.

    An axis without a name (`Q`, `I`) of a stack is z; samples are channels; what OME has no room for is split.
    """
    shape, letters = stack.shape, stack.letters
    depth = len(stack.lead)
    y, x = depth + 2, depth + 3
    roles: dict[int, tuple[str, AxisKind]] = {}
    if letters[y] != "Y" or letters[x] != "X":
        y, x = letters.rfind("Y"), letters.rfind("X")
        if min(y, x) < 0:
            y, x = depth + 2, depth + 3
    roles[y], roles[x] = ("y", AxisKind.SPACE), ("x", AxisKind.SPACE)
    long = [axis for axis in range(len(shape)) if shape[axis] > 1 and axis not in roles]

    def take(wanted: str, name: str, kind: AxisKind) -> bool:
        for axis in reversed(long):
            if letters[axis] in wanted and axis not in roles:
                roles[axis] = (name, kind)
                return True
        return False

    take("Z", "z", AxisKind.SPACE) or take("IQ", "z", AxisKind.SPACE)
    take("T", "t", AxisKind.TIME)
    channel = take("S", "c", AxisKind.CHANNEL) or take("C", "c", AxisKind.CHANNEL)
    for axis in reversed(long):
        if axis not in roles and not channel and letters[axis] != "T":
            roles[axis] = (_word(letters[axis]), AxisKind.CUSTOM)
            channel = True
    written = sorted(roles, key=lambda axis: (_RANK[roles[axis][1]], "zyx".find(roles[axis][0])))
    return Meaning(
        axes=tuple((axis, *roles[axis]) for axis in written),
        split=tuple((axis, _word(letters[axis])) for axis in long if axis not in roles),
    )


def _word(letter: str) -> str:
    name = str(tifffile.TIFF.AXES_NAMES.get(letter, letter.lower()))
    return {"other": "series", "sequence": "series"}.get(name, name)
