"""Which image is shown first, under which names, and whether a header's claims can be true at all."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence

from scientistcloud.errors import UnreadableSource
from scientistcloud.omezarr.image import AxisKind, Image

# Deflate packs zeros 1000 to 1, zstd some 10000 to 1; a small file may be that of a large empty grid.
_PACKED_AT_MOST = 1 << 16
_ALWAYS_PLAUSIBLE_BYTES = 1 << 30


def rank(image: Image) -> tuple[int, int]:
    """The larger, the sooner it is shown: most spatial axes, then most voxels."""
    return sum(axis.kind is AxisKind.SPACE for axis in image.axes), math.prod(image.shape)


def reason(images: Sequence[Image]) -> str:
    """Why the first of `images`, in order of `rank`, is the one shown first."""
    first, *others = images
    if not others:
        return f"{first.source_name} is the only image"
    space = rank(first)[0]
    of = f"{first.source_name} is shown first of {len(images)} images"
    if all(rank(other)[0] < space for other in others):
        return f"{of}: no other has {space} spatial axes"
    if all(rank(other) < rank(first) for other in others):
        return f"{of}: it has the most voxels of those with {space} spatial axes"
    return f"{of}: it has {space} spatial axes, no other has more voxels, and it comes first in the file"


def unique(paths: Sequence[str], *, taken: Collection[str] = ()) -> list[str]:
    """A name for each path: its last part, where that is not enough `_` and the parts before it."""
    parts = [[_plain(part) for part in path.split("/") if part] or ["image"] for path in paths]
    used = [1] * len(parts)
    while True:
        names = ["_".join(each[-count:]) for each, count in zip(parts, used, strict=True)]
        counts = Counter(names)
        longer = [
            min(count + 1, len(each)) if counts[name] > 1 or name in taken else count
            for name, count, each in zip(names, used, parts, strict=True)
        ]
        if longer == used:
            break
        used = longer
    # Equal paths (two files' first series, a series of images) and whatever else is left are numbered.
    seen: set[str] = set(taken)
    final = []
    for name in names:
        number, candidate = 1, name
        while candidate in seen:
            number += 1
            candidate = f"{name}_{number}"
        seen.add(candidate)
        final.append(candidate)
    return final


def _plain(part: str) -> str:
    """Letters and digits of any script, `_`, `-` and `.`: what a folder and an address can be called everywhere."""
    return re.sub(r"[^\w.-]+", "_", part).strip("._") or "image"


def check_plausible(name: str, what: str, claimed_bytes: int, file_bytes: int) -> None:
    """Raise `UnreadableSource` where a header claims more than any compression could have put into the file."""
    if claimed_bytes > max(_ALWAYS_PLAUSIBLE_BYTES, file_bytes * _PACKED_AT_MOST):
        raise UnreadableSource(
            f"{name} is damaged: {what} claims {claimed_bytes:.3g} bytes, which {file_bytes} bytes of file cannot "
            "hold; upload it again"
        )
