"""Chunks, shards, and the order in which an image is walked: pure arithmetic on boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from scientistcloud.omezarr.image import AxisKind, Image, Region
from scientistcloud.omezarr.pyramid import Level

SHARD_BYTES = 32 << 20
"""Aimed at for one shard, before compression: cheap to hold, and hundreds of GiB are a few thousand files."""
_CUBE, _SQUARE, _THIN = 64, 256, 16
_CHUNK_VOXELS = _CUBE**3

Box = tuple[int, ...]
"""A length for each axis."""


def chunk_of(image: Image, asked: Sequence[int] | None = None) -> Box:
    """The chunk that is aimed at on every level: 64³ in 3-D, 256² in 2-D, all channels of RGB, one of all else.

    A stack of a few planes gets flat chunks of about as many voxels. Each level clips it to its own shape.
    `asked` overrules it along the last axes, as many as it has.
    """
    chunk = _chunk_of(image)
    if not asked:
        return chunk
    return (*chunk[: -len(asked)], *asked[-len(chunk) :])


def _chunk_of(image: Image) -> Box:
    space = [i for i, axis in enumerate(image.axes) if axis.kind is AxisKind.SPACE]
    chunk = [1] * len(image.axes)
    for i, axis in enumerate(image.axes):
        if axis.kind is AxisKind.CHANNEL and image.rgb:
            chunk[i] = axis.length
    if len(space) < 3:
        plane = _SQUARE
    else:
        depth = image.axes[space[0]].length
        chunk[space[0]] = min(_CUBE, depth)
        plane = _CUBE
        while depth <= _THIN and plane < _SQUARE and depth * (2 * plane) ** 2 <= _CHUNK_VOXELS:
            plane *= 2
    chunk[-2:] = [plane, plane]
    return tuple(chunk)


def shard_of(
    shape: Sequence[int],
    chunk: Sequence[int],
    *,
    item_bytes: int,
    source_chunk: Sequence[int] | None = None,
    within: Sequence[int] | None = None,
) -> Box:
    """The shard of a level: `chunk` doubled in x and y in turn, then z, then the rest, up to `SHARD_BYTES`.

    Where the source's blocks are deeper than `chunk`, it is first doubled to their depth: shards beside each other
    then do not wait for the same blocks. `within`: the shard of level 0, which that of a coarser level exceeds
    along no axis. A coarser shard that was deeper would be half full for that much longer while the source is read.
    """
    shard = list(chunk)
    most = [-(-n // c) * c for n, c in zip(shape, chunk, strict=True)]
    if within is not None:
        most = [min(m, max(c, w // c * c)) for m, c, w in zip(most, chunk, within, strict=True)]

    def double(axes: Sequence[int], to: Sequence[int]) -> None:
        while open_ := [i for i in axes if shard[i] < min(most[i], to[i])]:
            i = min(open_, key=lambda i: (shard[i], -i))
            wider = min(2 * shard[i], most[i])
            if prod(shard) // shard[i] * wider * item_bytes > SHARD_BYTES:
                return
            shard[i] = wider

    axes = range(len(shape))
    for i in reversed(axes[:-2]):
        double([i], source_chunk or chunk)
    double(axes[-2:], most)
    for i in reversed(axes[:-2]):
        double([i], most)
    return tuple(shard)


def grown(start: Sequence[int], to: Sequence[int], *, item_bytes: int, max_bytes: int) -> Box:
    """`start` enlarged by whole multiples of itself to at most `to` (rounded up), the last axis first.

    An axis before another is only enlarged when that one reached its end, so that boxes stay rows and planes.
    """
    box = list(start)
    for i in reversed(range(len(box))):
        wanted = -(-to[i] // start[i])
        fitting = max_bytes // (prod(box) * item_bytes)
        box[i] *= max(1, min(wanted, fitting))
        if fitting < wanted:
            break
    return tuple(box)


@dataclass(frozen=True, slots=True)
class Walk:
    """How level 0 is read: in slabs of whole shards, each in pieces of whole blocks of the source."""

    shape: Box
    slab: Box
    piece: Box
    #: One slab after the other, row-major; for arrays without coarser levels.
    in_order: bool = False

    def slabs(self) -> Iterator[Region]:
        """Slabs in an order in which few shards of the coarser levels are half full at a time.

        Along the last three axes that order is Morton's (z-order); where a slab is a row or a plane, that is
        simply one after the other. Axes before them (time, channels) are walked from outside.
        """
        counts = [-(-n // s) for n, s in zip(self.shape, self.slab, strict=True)]
        outer, inner = counts[:-3], counts[-3:]
        order = list(product(*map(range, inner)))
        if not self.in_order:
            order.sort(key=_morton)
        for index in product(product(*map(range, outer)), order):
            place = (*index[0], *index[1])
            yield tuple(
                slice(i * s, min((i + 1) * s, n)) for i, s, n in zip(place, self.slab, self.shape, strict=True)
            )

    def pieces(self, slab: Region) -> Iterator[Region]:
        ranges = [range(s.start, s.stop, p) for s, p in zip(slab, self.piece, strict=True)]
        for start in product(*ranges):
            yield tuple(slice(a, min(a + p, s.stop)) for a, p, s in zip(start, self.piece, slab, strict=True))


def _morton(index: tuple[int, ...]) -> int:
    bits = max(index).bit_length()
    return sum(
        (n >> bit & 1) << bit * len(index) + (len(index) - 1 - i)
        for bit in range(bits)
        for i, n in enumerate(index)
    )


def walk_of(
    shape: Sequence[int],
    shard: Sequence[int],
    source_chunk: Sequence[int] | None,
    *,
    item_bytes: int,
    slab_bytes: int,
    piece_bytes: int,
) -> Walk:
    """Slabs that hold whole blocks of the source as far as `slab_bytes` allows, so that none is read twice."""
    hint = tuple(source_chunk) if source_chunk else tuple(shard)
    slab = grown(shard, hint, item_bytes=item_bytes, max_bytes=slab_bytes)
    block = tuple(min(h, s) for h, s in zip(hint, slab, strict=True))
    if source_chunk and prod(block) * item_bytes <= piece_bytes:
        piece = grown(block, slab, item_bytes=item_bytes, max_bytes=piece_bytes)
    else:  # a larger block is taken in parts, which its reader keeps it for
        piece = grown(
            (1,) * len(slab), block if source_chunk else slab, item_bytes=item_bytes, max_bytes=piece_bytes
        )
    return Walk(tuple(shape), slab, piece)


def half_full_bytes(slab: Sequence[int], levels: Sequence[Level], shards: Sequence[Box], *, item_bytes: int) -> int:
    """What the shards of the coarser levels take that are half full while `slab` by `slab` is read."""
    total = 0
    for level, shard in zip(levels[1:], shards[1:], strict=True):
        cover = [
            min(n, -(-s // f // c) * c) for n, s, f, c in zip(level.shape, slab, level.factors, shard, strict=True)
        ]
        total += prod(cover) * item_bytes
    return total


def boxes(start: Sequence[int], shape: Sequence[int], cell: Sequence[int]) -> Iterator[tuple[Box, Region, Region]]:
    """The cells of a grid of `cell` that a block of `shape` at `start` touches.

    Yields the cell's index, where in the cell the common part lies, and where in the block.
    """
    spans = []
    for a, n, c in zip(start, shape, cell, strict=True):
        spans.append(
            [
                (
                    k,
                    slice(max(a, k * c) - k * c, min(a + n, (k + 1) * c) - k * c),
                    slice(max(a, k * c) - a, min(a + n, (k + 1) * c) - a),
                )
                for k in range(a // c, -(-(a + n) // c))
            ]
        )
    for cells in product(*spans):
        yield tuple(k for k, _, _ in cells), tuple(i for _, i, _ in cells), tuple(b for _, _, b in cells)
