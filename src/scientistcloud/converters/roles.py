"""What the dimensions of an array with named axes become: time, something else, space, or a series of images."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from scientistcloud.omezarr.image import AxisKind

TIME_NAMES = frozenset((
    "time", "t", "date", "datetime", "day", "month", "year", "hour", "season", "week", "valid_time", "tstep",
))  # fmt: skip
OTHER_NAMES = re.compile(
    r"(ensemble|member|realization|realisation|number|band|channel|spectral|wavelength|wavenumber|frequency|"
    r"polarization|polarisation|camera|species|quantile|percentile|scenario|model|experiment)s?(_?\d+)?$"
)
"""Names of axes that are neither time nor space, in lower case."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """The axes of the images that an array becomes."""

    #: Dimension of the array and its kind, in the order in which they are written.
    axes: tuple[tuple[int, AxisKind], ...]
    #: Dimensions that become a series of images.
    split: tuple[int, ...]
    #: Dimensions of length 1 for which there is no axis.
    single: tuple[int, ...]

    @property
    def order(self) -> tuple[int, ...]:
        return tuple(dim for dim, _ in self.axes)

    def transposed(self) -> tuple[int, ...] | None:
        ranks = {dim: rank for rank, dim in enumerate(sorted(self.order))}
        moved = tuple(ranks[dim] for dim in self.order)
        return None if moved == tuple(range(len(moved))) else moved

    def views(self, lengths: Sequence[int]) -> Iterator[dict[int, int]]:
        """The fixed indices of each image of the series."""
        for index in product(*(range(lengths[dim]) for dim in self.split)):
            yield dict(zip(self.split, index, strict=True)) | dict.fromkeys(self.single, 0)


def meaning(lengths: Sequence[int], *, times: Collection[int], others: Collection[int]) -> Meaning:
    """The last two or three dimensions that are neither time nor something else are space.

    One more may be time and one custom; further ones become a series of images. An array of two dimensions is
    a picture whatever they are (time against depth).
    """
    long = [index for index, length in enumerate(lengths) if length > 1]
    rest = [index for index in range(len(lengths)) if index not in times and index not in others]
    space = rest[-3:]
    if sum(index in long for index in space) < min(2, len(long)):  # too few of them to be drawn: whatever is long
        space = long[-2:]
    time = _longest([index for index in sorted(times) if index not in space], lengths)
    custom = _longest([index for index in range(len(lengths)) if index not in (*space, *time)], lengths)
    left = [index for index in range(len(lengths)) if index not in (*space, *custom, *time)]
    if len(space) == 2:  # an axis of length 1 for which there is no other place
        space = [*[index for index in left if index not in long][-1:], *space]
    axes = [(index, AxisKind.TIME) for index in time]
    axes += [(index, AxisKind.CUSTOM) for index in custom]
    axes += [(index, AxisKind.SPACE) for index in space]
    left = [index for index in left if index not in space]
    return Meaning(
        axes=tuple(axes),
        split=tuple(index for index in left if index in long),
        single=tuple(index for index in left if index not in long),
    )


def _longest(indices: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """The last of those that are longer than 1, else the last; an axis of length 1 takes nobody's place."""
    return ([index for index in indices if lengths[index] > 1] or list(indices))[-1:]
