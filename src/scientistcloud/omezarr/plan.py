"""What is written of each image, chosen before its values are read: levels, chunks, shards, codec and reduction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from scientistcloud.errors import InvalidParameters
from scientistcloud.omezarr.arrangement import Group, Member, alone
from scientistcloud.omezarr.codec import Codec, choose
from scientistcloud.omezarr.grid import Box, shard_of
from scientistcloud.omezarr.image import Image, Reader, Reduction, Source
from scientistcloud.omezarr.pyramid import representable
from scientistcloud.omezarr.sampling import decide_reduction, samples_of
from scientistcloud.omezarr.shards import ShardedArray
from scientistcloud.omezarr.statistics import Histogram, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """What a person may overrule of the writer's choices."""

    #: At most so many levels; None: until one fits a chunk.
    levels: int | None = None
    #: For every image; None: as the reader says, else from the data.
    reduction: Reduction | None = None
    #: `auto`, `zstd` or `lz4`.
    codec: str = "auto"
    #: The stored value that means "no data", in place of what the source says.
    fill: float | int | None = None
    #: Lengths of chunks and shards along the last axes of every image; None: as `grid` chooses.
    chunk: tuple[int, ...] | None = None
    shard: tuple[int, ...] | None = None


@dataclass(slots=True, kw_only=True)
class Variable:
    """One image as it was written."""

    member: Member
    #: The group's path in the store, and the variable's of level 0.
    group: Group
    reduction: Reduction
    codec: Codec
    #: One for each level.
    chunks: tuple[Box, ...]
    shards: tuple[Box, ...]
    windows: tuple[Window, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    #: Where it stands, if it is an array that is kept beside the images.
    at: str | None = None

    def path(self, level: int = 0) -> str:
        if self.at is not None:
            return self.at
        return "/".join(filter(None, (self.group.path, str(level), self.member.image.name)))

    @property
    def fill(self) -> Any:
        """The value of chunks that are not stored."""
        return next(iter(representable(self.member.image.fill, self.member.image.dtype)), 0)

    def array(self, store: Path, level: int) -> ShardedArray:
        return ShardedArray(
            folder=store / self.path(level),
            chunk=self.chunks[level],
            shard=self.shards[level],
            dtype=self.member.image.dtype,
            codec=self.codec,
            fill=self.fill,
        )

    @property
    def raw_bytes(self) -> int:
        """Of all levels, before compression."""
        return sum(prod(level.shape) for level in self.member.levels) * self.member.image.dtype.itemsize

    @property
    def stored_bytes(self) -> int:
        """What its files will take at most, by the samples that chose the codec."""
        return int(self.raw_bytes * min(1.05, self.codec.ratio * 1.1))


def planned(reader: Reader, group: Group, member: Member, options: WriteOptions) -> Variable:
    samples = samples_of(reader, member)
    chunks = tuple(
        tuple(min(c, n) for c, n in zip(member.chunk, level.shape, strict=True)) for level in member.levels
    )
    item_bytes, source_chunk = member.image.dtype.itemsize, member.image.source_chunk
    finest = shard_of(member.image.shape, chunks[0], item_bytes=item_bytes, source_chunk=source_chunk)
    if options.shard is not None:
        finest = _asked_shard(finest, options.shard, chunks[0])
    return Variable(
        member=member,
        group=group,
        reduction=options.reduction or decide_reduction(member.image, samples),
        codec=choose(samples, options.codec),
        chunks=chunks,
        shards=tuple(
            finest if k == 0 else shard_of(level.shape, chunk, item_bytes=item_bytes, within=finest)
            for k, (level, chunk) in enumerate(zip(member.levels, chunks, strict=True))
        ),
    )


def planned_array(reader: Reader, source: Source, number: int, options: WriteOptions) -> Variable:
    array = source.arrays[number]
    group = alone(array.image, len(source.images) + number, chunk=array.chunk, path=array.path.rpartition("/")[0])
    (member,) = group.members
    return Variable(
        member=member,
        group=group,
        reduction=Reduction.NEAREST,
        codec=choose(samples_of(reader, member), options.codec),
        chunks=(array.chunk,),
        shards=(array.shard,),
        at=array.path,
    )


def filled(images: Sequence[Image], fill: float | None) -> list[Image]:
    """`images` with `fill` for missing values, those whose pixels can have it; the first has to be one of them."""
    if fill is None:
        return list(images)

    def can(image: Image) -> bool:
        return bool(representable([fill], image.dtype)) or (fill != fill and image.dtype.kind in "fc")

    if not can(images[0]):
        raise InvalidParameters(f"no value of {images[0].name} can be {fill:g}: it holds {images[0].dtype}")
    return [_with_fill(image, fill) if can(image) else image for image in images]


def _with_fill(image: Image, fill: float) -> Image:
    attributes = {key: value for key, value in image.attributes.items() if key != "missing_value"}
    return replace(image, fill=(fill,), attributes={**attributes, "_FillValue": fill})


def _asked_shard(chosen: Box, asked: tuple[int, ...], chunk: Box) -> Box:
    shard = (*chosen[: -len(asked)], *asked[-len(chosen) :])
    shard = tuple(max(s, c) for s, c in zip(shard, chunk, strict=True))
    if any(s % c for s, c in zip(shard, chunk, strict=True)):
        raise InvalidParameters(
            f"a shard of {_by(shard)} holds no whole chunks of {_by(chunk)}; make it a multiple"
        )
    return shard


def _by(box: Box) -> str:
    return " × ".join(map(str, box))
