"""The job type `dataset_conversion`: source files to an OME-Zarr store, or to IDX, with a preview.

`convert` does it, for the service and for the command line alike; it needs no database.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from scientistcloud import __version__
from scientistcloud.converters import registry
from scientistcloud.converters.contract import ReadOptions
from scientistcloud.converters.overruled import scan_from_text
from scientistcloud.errors import InvalidParameters, UnreadableSource
from scientistcloud.layout import CONVERTED, CONVERTED_BLOCKS, CONVERTED_IDX, PREVIEW, QUICKLOOK
from scientistcloud.omezarr import metadata
from scientistcloud.omezarr.check import check
from scientistcloud.omezarr.check import compare as compare_with
from scientistcloud.omezarr.image import Array, Image, Reader, Reduction, Region, Source
from scientistcloud.omezarr.preview import write_preview
from scientistcloud.omezarr.quicklook import look
from scientistcloud.omezarr.streaming import sync
from scientistcloud.omezarr.writer import Variable, WriteOptions, Written, disk, silent, write
from scientistcloud.records import Json
from scientistcloud.tasks import idx_form
from scientistcloud.tasks.confinement import confine
from scientistcloud.tasks.contract import Outcome, Report, Work

OME_ZARR, IDX = FORMS = ("ome-zarr", "idx")
DEFAULT_MEMORY_BYTES = 512 << 20
QUICKLOOK_FROM_BYTES = 512 << 20
"""What is smaller is converted as fast as looked at."""
_HASHED_BYTES = 4 << 20  # at once: between two looks at whether anybody still wants the sum
_OF_A_STORE = ("group", "chunk", "shard", "reduction")  # which an IDX has not
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
) -> dict[str, Any]:
    """Convert `source`, a file or a folder of files as one data set, into the new store `output`.

    With `form` `idx`, `output` is an ``.idx``, and the folder of its blocks beside it. The output, and `preview`
    where one is wanted, appear when they are complete, synced and checked, or not at all; whatever ends the
    conversion (`report` may raise) leaves nothing behind. Of what will take a while, `quicklook` appears within
    seconds: a small store with a preview in it; the caller's to remove.

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
    fingerprint = Fingerprint.of(source)
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    reader = registry.open_source(source, sensor=sensor, options=replace(options, scratch=partial))
    # Of IDX, the store is the first half of the way.
    told = report if form == OME_ZARR else lambda share, step: report(share / 2, step)
    made = partial / output.name
    try:
        with Hashing(fingerprint) as hashing:
            described = reader.describe()
            recipe = _recipe(sensor, options, writing, form)
            _make(made)
            large = _size(described.images[0]) >= QUICKLOOK_FROM_BYTES
            if quicklook is not None and large and not described.arrays:  # of arrays, images are yet to be made
                report(0.0, "quick look")
                _quick_look(reader, described, quicklook, partial=partial, report=report)
            written = write(
                reader,
                described,
                made,
                options=writing,
                memory_bytes=memory_bytes,
                report=told,
                provenance=lambda: {**recipe, "source": hashing.result()},
            )
        fingerprint.must_be_unchanged()
        told(0.985, "checking")
        check(made)
        if preview is not None:
            told(0.99, "preview")
            _preview(made, written)
        document = _form(described, written, made, preview)
        appearing = [made]
        if form == IDX:
            appearing, changed = _as_idx(made, written, report)
            document = {key: value for key, value in document.items() if key not in _OF_A_STORE}
            document |= {**changed, "warnings": [*document["warnings"], *changed["warnings"]]}
        report(0.995, "publishing")  # the last word: what has appeared is not taken back
        _appear(appearing, output, preview)
        return {**document, **recipe, "seconds": round(time.monotonic() - started, 3)}
    finally:
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


# -- options -------------------------------------------------------------------------------------


def read_options(parameters: Json) -> ReadOptions:
    """The reader's options among a job's parameters. Raises `InvalidParameters` for one of a wrong form."""
    axes, spacing = parameters.get("axes"), parameters.get("spacing") or {}
    if axes is not None and not (isinstance(axes, list | tuple) and all(isinstance(each, str) for each in axes)):
        raise InvalidParameters(f"axes is {axes!r}; give a list of names such as ['z', 'y', 'x']")
    if not isinstance(spacing, Mapping) or not all(
        isinstance(each, int | float) and 0 < each < float("inf") for each in spacing.values()
    ):
        raise InvalidParameters(
            f"spacing is {spacing!r}; give a positive number for each axis such as {{'z': 2.5}}"
        )
    array, bands = parameters.get("array"), parameters.get("bands")
    return ReadOptions(
        array=None if array is None else str(array),
        axes=None if axes is None else tuple(axes),
        spacing={str(name): float(each) for name, each in spacing.items()},
        bands=None if bands is None else str(bands),
        scan=_scan(parameters.get("scan")),
    )


def form_option(parameters: Json) -> str:
    """The form that a job's parameters ask for, `ome-zarr` where they do not. Raises `InvalidParameters`."""
    form = parameters.get("format") or OME_ZARR
    if form not in FORMS:
        raise InvalidParameters(f"format is {form!r}; it can be {' or '.join(FORMS)}")
    return str(form)


def _scan(said: Any) -> tuple[int, int] | None:
    if isinstance(said, list | tuple) and len(said) == 2:
        said = "x".join(map(str, said))
    return scan_from_text(None if said is None else str(said))


def write_options(parameters: Json) -> WriteOptions:
    """The writer's options among a job's parameters. Raises `InvalidParameters`."""
    levels, reduce = parameters.get("levels"), parameters.get("reduce")
    if levels is not None and (not isinstance(levels, int) or levels < 1):
        raise InvalidParameters(f"levels is {levels!r}; give a number from 1 on")
    known = {each.name.lower(): each for each in Reduction}
    if reduce is not None and reduce not in known:
        raise InvalidParameters(f"reduce is {reduce!r}; it can be {', '.join(known)}")
    codec = parameters.get("codec") or "auto"
    if codec not in ("auto", "zstd", "lz4"):
        raise InvalidParameters(f"codec is {codec!r}; it can be auto, zstd or lz4")
    fill = parameters.get("fill")
    fill = float("nan") if fill == "NaN" else fill
    if fill is not None and (isinstance(fill, bool) or not isinstance(fill, int | float)):
        raise InvalidParameters(f"fill is {fill!r}; give the number that means 'no data'")
    return WriteOptions(
        levels=levels,
        reduction=known[reduce] if reduce else None,
        codec=codec,
        fill=fill,
        chunk=_box("chunk", parameters.get("chunk"), most=MOST_CHUNK),
        shard=_box("shard", parameters.get("shard"), most=MOST_SHARD),
    )


MOST_CHUNK, MOST_SHARD = 1 << 24, 1 << 28  # voxels: a chunk is decoded, a shard is held as a whole


def _box(name: str, given: Any, *, most: int) -> tuple[int, ...] | None:
    if given is None:
        return None
    whole = isinstance(given, list | tuple) and all(isinstance(n, int) and not isinstance(n, bool) for n in given)
    if not whole or not given or min(given) < 1 or prod(given) > most:
        raise InvalidParameters(f"{name} is {given!r}; give lengths of the last axes such as [64, 64, 64]")
    return tuple(given)


def _recipe(sensor: str, options: ReadOptions, writing: WriteOptions, form: str) -> dict[str, Any]:
    """What has to be said to do the same again."""
    named: dict[str, Any] = {
        "sensor": sensor,
        "array": options.array,
        "axes": list(options.axes) if options.axes else None,
        "spacing": dict(options.spacing) or None,
        "bands": options.bands,
        "scan": list(options.scan) if options.scan else None,
        "levels": writing.levels,
        "reduce": writing.reduction.name.lower() if writing.reduction else None,
        "codec": writing.codec,
        "fill": _json_number(writing.fill),
        "chunk": list(writing.chunk) if writing.chunk else None,
        "shard": list(writing.shard) if writing.shard else None,
        "format": None if form == OME_ZARR else form,
    }
    return {"options": {key: value for key, value in named.items() if value is not None}}


def _json_number(number: float | None) -> float | str | None:
    """NaN is no JSON."""
    return "NaN" if number is not None and number != number else number


# -- the source ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The files of a source as they were when the conversion began."""

    root: Path
    #: Relative path -> size, time of change, inode.
    files: Mapping[str, tuple[int, int, int]]

    @classmethod
    def of(cls, source: Path) -> Fingerprint:
        root = source if source.is_dir() else source.parent
        paths = sorted(source.rglob("*")) if source.is_dir() else [source]
        files = {}
        for path in paths:
            if path.is_file():
                status = path.stat()
                files[str(path.relative_to(root))] = (status.st_size, status.st_mtime_ns, status.st_ino)
        return cls(root, files)

    def must_be_unchanged(self) -> None:
        for name, before in self.files.items():
            try:
                status = (self.root / name).stat()
                now = (status.st_size, status.st_mtime_ns, status.st_ino)
            except FileNotFoundError:
                now = (0, 0, 0)
            if now != before:
                raise UnreadableSource(
                    f"{name} changed while it was converted; convert it again when it is complete"
                )


class Hashing:
    """SHA-256 of the source files, taken in a thread beside the conversion."""

    def __init__(self, fingerprint: Fingerprint) -> None:
        self._fingerprint = fingerprint
        self._stop = Event()
        self._pool = ThreadPoolExecutor(1, "sha256")

    def __enter__(self) -> Hashing:
        self._sums = self._pool.submit(self._hash)
        return self

    def __exit__(self, *failed: object) -> None:
        self._stop.set()
        self._pool.shutdown()

    def result(self) -> list[dict[str, Any]]:
        """``{path, size_bytes, sha256}`` of each file."""
        return self._sums.result()

    def _hash(self) -> list[dict[str, Any]]:
        out = []
        for name, (size_bytes, _, _) in self._fingerprint.files.items():
            total = hashlib.sha256()
            with (self._fingerprint.root / name).open("rb", buffering=0) as file:
                while not self._stop.is_set() and (block := file.read(_HASHED_BYTES)):
                    total.update(block)
            out.append({"path": name, "size_bytes": size_bytes, "sha256": total.hexdigest()})
        return out


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


def _preview(made: Path, written: Written) -> None:
    """The preview beside the store that was made."""
    first = written.variables[0]
    with disk(made):
        write_preview(
            made.with_name(PREVIEW),
            arrays=[made / first.path(k) for k in range(len(first.member.levels))],
            levels=first.member.levels,
            image=first.member.image,
            windows=first.windows,
            coordinates=first.group.coordinates,
        )
        sync(made.with_name(PREVIEW))


def _quick_look(reader: Reader, described: Source, target: Path, *, partial: Path, report: Report) -> None:
    """Write a few pixels of the first image as a store with a preview, which then appears as `target`."""
    looked = look(reader, 0, described.images[0], report=lambda: report(0.0, "quick look"))
    if looked is None:
        return
    image, values = looked
    made = partial / target.name
    made.mkdir()
    small = Source(sensor=described.sensor, images=(image,), reader=described.reader)
    written = write(_Looked(small, values), small, made)
    _preview(made, written)
    made.with_name(PREVIEW).rename(made / PREVIEW)
    made.rename(target)


@dataclass(frozen=True, slots=True)
class _Looked:
    """The quick look as a reader: its one image lies in memory."""

    source: Source
    values: Array

    def describe(self) -> Source:
        return self.source

    def read(self, image: int, region: Region) -> Array:
        del image  # there is one
        return np.ascontiguousarray(self.values[region])

    def close(self) -> None:
        """Nothing is held."""


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


def _as_idx(made: Path, written: Written, report: Report) -> tuple[list[Path], dict[str, Any]]:
    """IDX in place of the store `made`: what is to appear of it, and what the form says otherwise."""
    store = made.with_name("level0.ome.zarr")
    made.rename(store)
    idx = idx_form.write_idx(store, written, made, report=report)
    shutil.rmtree(store)
    blocks = idx_form.blocks_of(made)
    files = [made, *(path for path in blocks.rglob("*") if path.is_file())]
    images = []
    for variable in idx.variables:
        described = _described(variable)
        for key in _OF_A_STORE:
            del described[key]
        level = {**described["levels"][0], "path": made.name}
        images.append({**described, "levels": [level], "codec": "zip", "fields": idx.fields[described["variable"]]})
    changed = metadata.json_value(
        {
            **images[0],
            "format": idx_form.FORMAT,
            "images": images,
            "size_bytes": sum(path.stat().st_size for path in files),
            "files": len(files),
            "warnings": idx.warnings,
        }
    )
    assert isinstance(changed, dict)
    return [blocks, made], changed


def _form(source: Source, written: Written, store: Path, preview: Path | None) -> dict[str, Any]:
    first = written.variables[0]
    image = first.member.image
    files = [path for path in store.rglob("*") if path.is_file()]
    described = metadata.json_value(
        {
            "format": f"OME-Zarr {metadata.NGFF_VERSION}",
            "version": __version__,
            "sensor": source.sensor,
            "reader": source.reader,
            "reason": source.reason,
            **_described(first),
            "transposed": image.transposed,
            "units": image.attributes.get("units"),
            "scale_factor": image.attributes.get("scale_factor"),
            "add_offset": image.attributes.get("add_offset"),
            "channels": [
                {"label": channel.label, "color": channel.color}
                for channel in metadata.channels_of(image, len(first.windows))
            ],
            "rgb": image.rgb and bool(image.channels),
            "window": first.windows[0].as_json(),
            "histogram": first.histograms[0].as_json(),
            "images": [_described(variable) for variable in written.variables],
            "arrays": [{"path": variable.path(), **_kept(variable)} for variable in written.arrays],
            "size_bytes": sum(path.stat().st_size for path in files),
            "files": len(files),
            "preview": preview.name if preview else None,
            "warnings": [*source.warnings, *written.warnings],
        }
    )
    assert isinstance(described, dict)
    return described


def _kept(variable: Variable) -> dict[str, Any]:
    described = _described(variable)
    return {key: described[key] for key in ("source_array", "axes", "shape", "dtype", "chunk", "shard", "codec")}


def _described(variable: Variable) -> dict[str, Any]:
    image: Image = variable.member.image
    return {
        "group": variable.group.path,
        "variable": image.name,
        "source_array": image.source_name,
        "axes": [
            {
                "name": axis.name,
                "kind": axis.kind.value,
                "length": axis.length,
                "spacing": axis.spacing,
                "origin": axis.origin,
                "unit": axis.unit,
            }
            for axis in image.axes
        ],
        "shape": image.shape,
        "dtype": image.dtype.name,
        "levels": [
            {"path": variable.path(k), "shape": level.shape, "factors": level.factors}
            for k, level in enumerate(variable.member.levels)
        ],
        "chunk": variable.chunks[0],
        "shard": variable.shards[0],
        "codec": str(variable.codec),
        "reduction": variable.reduction.value,
    }
