"""`--format idx`: the full resolution of a finished store as IDX, for those whose tools are OpenVisus.

The store is written first, as always, and level 0 is read back from it: the source is read once, by the one writer,
and contrast and preview come from its levels. Then the blocks are written raw, and copied once more packed:
written piece by piece, a block that is packed at once would be packed anew with every piece that touches it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scientistcloud.converters import openvisus
from scientistcloud.converters.openvisus import OpenVisus
from scientistcloud.errors import InvalidParameters, NoSpace, SourceError, UnreadableSource
from scientistcloud.omezarr import metadata
from scientistcloud.omezarr.check import opened
from scientistcloud.omezarr.disk import sync
from scientistcloud.omezarr.image import Region
from scientistcloud.omezarr.plan import Variable
from scientistcloud.omezarr.writer import Written
from scientistcloud.tasks.contract import Report
from scientistcloud.tasks.form import described_variable
from scientistcloud.tasks.idx_fields import Field, fields_of, header_of, said, split

FORMAT = "OpenVisus IDX 6"
OF_A_STORE = ("group", "chunk", "shard", "reduction")
"""What the form of a store says, and an IDX has not."""
_PIECE_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class IdxWritten:
    """What an IDX holds."""

    #: The variables whose values are in it, the default one first.
    variables: tuple[Variable, ...]
    #: By variable: the fields that hold it.
    fields: Mapping[str, tuple[str, ...]]
    #: What was left out or changed, a sentence each.
    warnings: tuple[str, ...]


def must_be_possible(output: Path) -> None:
    """Raise before anything is converted: `InvalidParameters` for a name, `UnsupportedSource` without OpenVisus."""
    if output.suffix.lower() != ".idx":
        raise InvalidParameters(
            f"{output.name} does not end in .idx, by which OpenVisus knows its files; name it so"
        )
    blocks = blocks_of(output)
    if blocks.exists() or blocks.is_symlink():
        raise InvalidParameters(f"{blocks}, where the blocks belong, exists already; name another output")
    openvisus.need("--format idx")


def blocks_of(output: Path) -> Path:
    """The folder that holds the blocks of the IDX `output`."""
    return output.with_suffix("")


def write_idx(store: Path, written: Written, output: Path, *, report: Report) -> IdxWritten:
    """Write the full resolution of `store` as `output` and, beside it, the folder of its blocks; durable.

    Fields have one box: of several images those with the axes of the default one become fields. The first and the
    last piece of each field is read back and compared. Raises `UnsupportedSource` for what IDX has no place for,
    `NoSpace`.
    """
    kept, left = split(written.variables)
    left = [*left, *(array.path() for array in written.arrays)]
    fields = fields_of(kept)
    header = header_of(kept[0], output.stem)
    _check_space(output, fields)
    raw = output.with_name("raw") / output.name
    raw.parent.mkdir()
    process = OpenVisus()
    try:
        made = _ask(process, output, "create", path=str(raw), fields=[each.spelled() for each in fields], **header)
        bitmask = str(made["bitmask"])
        _write(process, store, output, fields, bitmask, report)
        report(0.9, "packing the blocks")
        packed = [each.spelled("default_compression(zip)") for each in fields]
        _ask(process, output, "pack", path=str(output), fields=packed, **header)
        process.ask("open", path=str(output), template=header["template"], time_template=header["time_template"])
        _compare(process, store, output, fields, bitmask)
    finally:
        process.close()
        shutil.rmtree(raw.parent, ignore_errors=True)
    for path in (*sorted(blocks_of(output).rglob("*")), blocks_of(output), output):
        sync(path)
    return IdxWritten(
        variables=tuple(kept),
        fields={each.member.image.name: tuple(f.name for f in fields if f.variable is each) for each in kept},
        warnings=tuple(said(kept, left)),
    )


def as_idx(made: Path, written: Written, report: Report) -> tuple[list[Path], dict[str, Any]]:
    """IDX in place of the store `made`: what is to appear of it, and what the form says otherwise."""
    store = made.with_name("level0.ome.zarr")
    made.rename(store)
    idx = write_idx(store, written, made, report=report)
    shutil.rmtree(store)
    blocks = blocks_of(made)
    files = [made, *(path for path in blocks.rglob("*") if path.is_file())]
    images = []
    for variable in idx.variables:
        described = described_variable(variable)
        for key in OF_A_STORE:
            del described[key]
        level = {**described["levels"][0], "path": made.name}
        images.append({**described, "levels": [level], "codec": "zip", "fields": idx.fields[described["variable"]]})
    changed = metadata.json_value(
        {
            **images[0],
            "format": FORMAT,
            "images": images,
            "size_bytes": sum(path.stat().st_size for path in files),
            "files": len(files),
            "warnings": idx.warnings,
        }
    )
    assert isinstance(changed, dict)
    return [blocks, made], changed


def _write(
    process: OpenVisus, store: Path, output: Path, fields: Sequence[Field], bitmask: str, report: Report
) -> None:
    total, done = sum(each.size_bytes for each in fields), 0
    for field in fields:
        array = opened(store / field.variable.path())
        for time, region in field.regions(bitmask, most_bytes=_PIECE_BYTES):
            values = field.values(array, time, region)
            _ask(
                process,
                output,
                "write",
                values.reshape(-1).view(np.uint8).data,
                field=field.name,
                time=time,
                box=_corners(region),
                dtype=values.dtype.str,
            )
            done += values.nbytes
            report(0.5 + 0.4 * done / total, f"writing {field.name} as IDX")


def _compare(process: OpenVisus, store: Path, output: Path, fields: Sequence[Field], bitmask: str) -> None:
    """Read the first and the last piece of each field as OpenVisus sees them."""
    for field in fields:
        array = opened(store / field.variable.path())
        pieces = list(field.regions(bitmask, most_bytes=_PIECE_BYTES // 8))
        for time, region in (pieces[0], pieces[-1]):
            _, body = process.ask("read", field=field.name, time=time, box=_corners(region))
            if body != field.values(array, time, region).tobytes():
                raise UnreadableSource(f"{output.name} does not hold what was written; convert the source again")


def _corners(region: Region) -> list[list[int]]:
    """The least and the greatest corner, x first."""
    return [[part.start for part in region[::-1]], [part.stop for part in region[::-1]]]


def _check_space(output: Path, fields: Sequence[Field]) -> None:
    needed = 2.1 * sum(each.size_bytes for each in fields)  # raw, and packed beside it
    free = shutil.disk_usage(output.parent).free
    if needed > free:
        raise NoSpace(
            f"the disk has {free / 2**30:.1f} GiB left and {output.name} needs about {needed / 2**30:.1f} GiB "
            "while it is written; free some space and try again"
        )


def _ask(
    process: OpenVisus, output: Path, do: str, values: memoryview | None = None, **question: Any
) -> Mapping[str, Any]:
    """Ask; a disk that became full is told apart from all else, which OpenVisus only calls an error."""
    try:
        return process.ask(do, values, **question)[0]
    except SourceError as failed:
        if shutil.disk_usage(output.parent).free < 2 * _PIECE_BYTES:
            raise NoSpace(f"the disk is full: {output.name} could not be written; free some space") from failed
        raise
