"""How an image is walked within the memory that there is."""

from __future__ import annotations

from math import prod

from scientistcloud.omezarr.grid import SHARD_BYTES, Walk, half_full_bytes, walk_of
from scientistcloud.omezarr.plan import Variable
from scientistcloud.omezarr.streaming import cores

SLAB_BYTES = 128 << 20
"""A slab is at most so large, however much memory there is; smaller where the source's blocks are."""
HELD_BYTES = 64 << 20
"""Of level 0 so much is held at a time, or one slab: more makes it no faster."""
PIECE_BYTES = 8 << 20
_PROCESS_BYTES = 140 << 20  # the interpreter and the libraries, with every reader loaded


def budgeted(variable: Variable, memory_bytes: int) -> tuple[Walk, int]:
    """How the image is walked, and how many bytes of its levels may be held meanwhile.

    The largest slab is taken that leaves room for the half full shards of the coarser levels, and for what each
    core reads and compresses; at least one shard, whatever the memory.
    """
    image, item = variable.member.image, variable.member.image.dtype.itemsize
    piece_bytes = max(1 << 20, min(PIECE_BYTES, memory_bytes // 32))
    # A core holds a piece as it is read and as it is decoded, a shard's half, a chunk and the same compressed.
    scratch_bytes = 2 * piece_bytes + SHARD_BYTES // 4 + 3 * prod(variable.chunks[0]) * item
    room = memory_bytes - _PROCESS_BYTES - cores() * scratch_bytes
    slab_bytes = SLAB_BYTES
    while True:
        walk = walk_of(
            image.shape,
            variable.shards[0],
            image.source_chunk,
            item_bytes=item,
            slab_bytes=slab_bytes,
            piece_bytes=piece_bytes,
        )
        half_full = half_full_bytes(walk.slab, variable.member.levels, variable.shards, item_bytes=item)
        held = prod(walk.slab) * item + half_full
        if held <= room or walk.slab == variable.shards[0]:
            return walk, max(held, min(HELD_BYTES + half_full, room))
        slab_bytes = prod(walk.slab) * item // 2
