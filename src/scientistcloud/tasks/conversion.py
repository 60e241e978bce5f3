"""The job type `dataset_conversion`: source files to an OME-Zarr store, or to IDX, with a preview.

`convert` does it, for the service and for the command line alike; it needs no database.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from scientistcloud.converters import registry
from scientistcloud.converters.contract import ReadOptions
from scientistcloud.errors import InvalidParameters
from scientistcloud.layout import CONVERTED, CONVERTED_BLOCKS, CONVERTED_IDX, PREVIEW, QUICKLOOK, partial_of
from scientistcloud.omezarr.budget import must_fit
from scientistcloud.omezarr.check import check
from scientistcloud.omezarr.check import compare as compare_with
from scientistcloud.omezarr.disk import disk, sync
from scientistcloud.omezarr.image import Image, Reader
from scientistcloud.omezarr.plan import WriteOptions
from scientistcloud.omezarr.writer import silent, write
from scientistcloud.tasks import idx_form
from scientistcloud.tasks.confinement import confine
from scientistcloud.tasks.contract import Outcome, Report, Work
from scientistcloud.tasks.conversion_options import (
    IDX,
    OME_ZARR,
    form_option,
    read_options,
    recipe_of,
    write_options,
)
from scientistcloud.tasks.fingerprint import Hashing
from scientistcloud.tasks.form import form_of
from scientistcloud.tasks.pictures import preview_of, quick_look

DEFAULT_MEMORY_BYTES = 512 << 20
QUICKLOOK_FROM_BYTES = 512 << 20
"""What is smaller is converted as fast as looked at."""
_SENSOR_KEYS = ("sensor", "sensor_type")


def convert(
    source: Path,
    output: Path,
    *,
    sensor: str = "auto",
    options: ReadOptions | None = None,
    writing: WriteOptions | None = None,
    form: str = OME_ZARR,
    preview: Path | None = None,
    quicklook: Path | None = None,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    report: Report = silent,
    hashing: Hashing | None = None,
) -> dict[str, Any]:
    """Convert `source`, a file or a folder of files as one data set, into the new store `output`.

    With `form` `idx`, `output` is an ``.idx``, and the folder of its blocks beside it. The output, and `preview`
    where one is wanted, appear when they are complete, synced and checked, or not at all; whatever ends the
    conversion (`report` may raise) leaves nothing behind. Of what will take a while, `quicklook` appears within
    seconds: a small store with a preview in it; the caller's to remove. `hashing` of the source, where the caller
    began with that before it loaded this module.

    Returns
    -------
    dict
        The form; docs/reference/form.md names its fields.

    Raises
    ------
    InvalidParameters
        `output` exists already, or cannot be made.
    SourceError
        The source cannot be read, or changed while it was read.
    NoSpace
        The disk is full, or a sample of the data says that it will be.
    """
    started = time.monotonic()
    _must_be_new(output)
    if form == IDX:
        idx_form.must_be_possible(output)
    if preview is not None and not preview.absolute().parent.is_dir():
        raise InvalidParameters(f"there is no folder {preview.parent} for the preview; make it first")
    options, writing = options or ReadOptions(), writing or WriteOptions()
    source, output = source.absolute(), output.absolute()
    _return_memory_at_once()
    report(0.0, "opening")
    hashing = hashing or Hashing(source)
    partial = partial_of(output, os.getpid())
    reader: Reader | None = None
    # Of IDX, the store is the first half of the way.
    told = report if form == OME_ZARR else lambda share, step: report(share / 2, step)
    made = partial / output.name
    try:
        reader = registry.open_source(source, sensor=sensor, options=replace(options, scratch=partial))
        described = reader.describe()
        for image in (*described.images, *(array.image for array in described.arrays)):
            must_fit(image, memory_bytes)
        recipe = recipe_of(sensor, options, writing, form)
        _make(made)
        first = described.arrays[0].image if described.arrays else described.images[0]
        if quicklook is not None and _size(first) >= QUICKLOOK_FROM_BYTES:
            report(0.0, "quick look")
            quick_look(reader, described, quicklook, partial=partial, report=report)
        written = write(
            reader,
            described,
            made,
            options=writing,
            memory_bytes=memory_bytes,
            report=told,
            provenance=lambda: {**recipe, "source": hashing.result()},
        )
        hashing.must_be_unchanged()
        told(0.985, "checking")
        check(made)
        if preview is not None:
            told(0.99, "preview")
            preview_of(made, written)
        document = form_of(described, written, made, preview)
        appearing = [made]
        if form == IDX:
            appearing, changed = idx_form.as_idx(made, written, report)
            document = {key: value for key, value in document.items() if key not in idx_form.OF_A_STORE}
            document |= {**changed, "warnings": [*document["warnings"], *changed["warnings"]]}
        report(0.995, "publishing")  # the last word: what has appeared is not taken back
        _appear(appearing, output, preview)
        return {**document, **recipe, "seconds": round(time.monotonic() - started, 3)}
    finally:
        hashing.close()
        if reader is not None:
            reader.close()
        shutil.rmtree(partial, ignore_errors=True)


def compare(store: Path, source: Path) -> int:
    """Compare every value of the default field of `store` with `source`; give how many there are.

    Raises `SourceError`, naming the first place that differs.
    """
    reader = registry.open_source(source, sensor="auto", options=ReadOptions())
    try:
        return compare_with(store, reader)
    finally:
        reader.close()


class ConversionTask:
    """`dataset_conversion`; parameters: `sensor_type`, and what `read_options` and `write_options` take."""

    job_type = "dataset_conversion"

    def run(self, work: Work) -> Outcome:
        """Publishes `converted.ome.zarr`, or where IDX was asked for that, and `preview.webp`."""
        # Whatever the files persuade a reading library to do, it reaches nothing else.
        confine(read=[work.source if work.source.is_dir() else work.source.parent], write=work.output)
        sensor = next((str(work.parameters[key]) for key in _SENSOR_KEYS if work.parameters.get(key)), "auto")
        kind = form_option(work.parameters)
        names = (CONVERTED,) if kind == OME_ZARR else (CONVERTED_IDX, CONVERTED_BLOCKS)
        form = convert(
            work.source,
            work.output / names[0],
            form=kind,
            sensor=sensor,
            options=read_options(work.parameters),
            writing=write_options(work.parameters),
            preview=work.output / PREVIEW,
            quicklook=work.output / QUICKLOOK,
            memory_bytes=work.memory_bytes,
            report=work.report,
        )
        kept = ("sensor", "variable", "shape", "dtype", "size_bytes", "seconds", "warnings")
        return Outcome(
            result={key: form[key] for key in kept},
            publish=(*names, PREVIEW),
            form=form,
            sensor=form["sensor"],
        )


# -- this process --------------------------------------------------------------------------------


def _return_memory_at_once() -> None:
    """Have freed shards leave the process, and what is smaller be used again, in few heaps.

    Left to itself, glibc raises the size from which it maps memory with every large block that is freed, and
    keeps a heap for each thread: a conversion of 512 MiB then peaks 60 MiB higher. Without glibc, nothing happens.
    """
    mapped_from, trimmed_from, arenas = -3, -1, -8  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_ARENA_MAX
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(mapped_from, 20 << 20)
    mallopt(trimmed_from, 64 << 20)
    mallopt(arenas, 2)


# -- the output ----------------------------------------------------------------------------------


def _must_be_new(output: Path) -> None:
    if output.exists() or output.is_symlink():
        raise InvalidParameters(f"{output} exists already; name another output, or remove it first")
    if not output.parent.is_dir():
        raise InvalidParameters(f"there is no folder {output.parent}; make it first")


def _make(made: Path) -> None:
    try:
        with disk(made):
            shutil.rmtree(made.parent, ignore_errors=True)  # of a process of this number that was killed
            made.mkdir(parents=True)
    except PermissionError as refused:
        raise InvalidParameters(f"{made.parent.parent} cannot be written to; name another output") from refused


def _size(image: Image) -> int:
    voxels: int = prod(image.shape)
    return voxels * image.dtype.itemsize


def _appear(made: Sequence[Path], output: Path, preview: Path | None) -> None:
    """Give the finished files their names, durably: `made` last, whose last is what others wait for."""
    if preview is not None:
        made[0].with_name(PREVIEW).replace(preview)
    for path in made:
        target = output if path is made[-1] else output.with_name(path.name)
        _must_be_new(target)
        path.rename(target)
    for folder in {output.parent, *([preview.parent] if preview else [])}:
        sync(folder)
