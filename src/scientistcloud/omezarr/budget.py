"""How an image is walked within the memory that there is."""

from __future__ import annotations

from math import prod

from scientistcloud.errors import UnsupportedSource
from scientistcloud.omezarr.grid import SHARD_BYTES, Walk, half_full_bytes, walk_of
from scientistcloud.omezarr.image import Image
from scientistcloud.omezarr.plan import Variable
from scientistcloud.omezarr.streaming import cores

SLAB_BYTES = 128 << 20
"""A slab, with a large block that is decoded for it, is at most so large, however much memory there is."""
HELD_BYTES = 48 << 20
"""Of level 0 so much is held at a time, or one slab: more makes it no faster."""
PIECE_BYTES = 4 << 20
_LARGE_BYTES = 64 << 20  # smaller blocks fit as well as the rest does
_PROCESS_BYTES = 140 << 20  # the interpreter and the libraries, with every reader loaded


def must_fit(image: Image, memory_bytes: int) -> None:
    """Raise `UnsupportedSource` where a block of the source, which is decoded as a whole, does not fit."""
    block_bytes = _block_bytes(image)
    needed = (
        _PROCESS_BYTES + _decoding_bytes(block_bytes) + cores() * (2 * PIECE_BYTES + SHARD_BYTES // 4) + SHARD_BYTES
    )
    if block_bytes > _LARGE_BYTES and needed > memory_bytes:
        raise UnsupportedSource(
            f"{image.source_name} lies in blocks of {block_bytes >> 20} MiB, each of which is decoded as a whole; "
            f"that needs {-(-needed >> 20)} MiB of memory, and {memory_bytes >> 20} are allowed: allow more "
            "(--memory, SLOT_MEMORY_BYTES), or save it in smaller chunks"
        )


def _block_bytes(image: Image) -> int:
    return prod(image.source_chunk) * image.dtype.itemsize if image.source_chunk else 0


def _decoding_bytes(block_bytes: int) -> int:
    """One block at a time, and the same compressed."""
    return block_bytes + block_bytes // 2


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
    if (block_bytes := _block_bytes(image)) > piece_bytes:
        room -= _decoding_bytes(block_bytes)
        slab_bytes = max(SHARD_BYTES, SLAB_BYTES - block_bytes)
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
