"""The program that has OpenVisus in it: one IDX, read or written by messages on standard input and output.

A message is a line of JSON, followed by as many bytes of values as its ``bytes`` says. OpenVisus can end its
process, writes to standard output and keeps a cache in the home folder, so it gets a process of its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from scientistcloud.converters.openvisus.blocks import Blocks

_KEPT_BLOCKS = 64  # of the coarsest, which every box needs again


def main() -> None:
    """Answer until there are no more questions."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what OpenVisus prints is no answer
    _end_with_parent()
    for name in ("VISUS_HOME", "VISUS_CACHE"):
        os.putenv(name, os.devnull + "/none")  # neither a cache nor anybody's configuration
    talk = Talk(sys.stdin.buffer, answers)
    for line in sys.stdin.buffer:
        talk.answer(json.loads(line))


def _end_with_parent() -> None:
    """Where the kernel can, a box that takes for ever does not outlive who asked for it."""
    set_death_signal = 1
    try:
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    except (AttributeError, OSError, TypeError):
        return


class Talk:
    """One IDX, opened by the first message."""

    def __init__(self, questions: IO[bytes], answers: IO[bytes]) -> None:
        import OpenVisus

        self._visus = OpenVisus
        self._questions = questions
        self._answers = answers
        self._dataset: Any = None
        self._blocks: Blocks | None = None
        self._field_names: list[str] = []
        self._kept: dict[tuple[int, float, int], Any] = {}

    def answer(self, question: Mapping[str, Any]) -> None:
        """Do what is asked; an error is an answer too."""
        deeds = {"open": self._open, "read": self._read, "create": self._create, "write": self._write,
                 "pack": self._pack}  # fmt: skip
        try:
            said, values = deeds[question["do"]](question)
        except Exception as failed:  # noqa: BLE001  # OpenVisus raises whatever; who asked decides
            said, values = {"error": " ".join(str(failed).split()) or type(failed).__name__}, b""
        self._answers.write(json.dumps({**said, "bytes": len(values)}).encode() + b"\n")
        self._answers.write(values)
        self._answers.flush()

    # -- reading -------------------------------------------------------------------------------

    def _open(self, question: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        self._dataset = self._visus.LoadDataset(question["path"]).db
        idx = self._dataset.idxfile
        self._field_names = [field.name for field in self._dataset.getFields()]
        self._blocks = Blocks(
            folder=Path(question["path"]).parent,
            template=question["template"],
            time_template=question["time_template"],
            blocks_per_file=int(idx.blocksperfile),
            interleaved=bool(idx.block_interleaving),
        )
        box = self._dataset.getLogicBox()
        dims = self._dataset.getPointDim()
        return {
            "version": self._visus.__dict__.get("__version__") or "",
            "fields": [
                {"name": field.name, "dtype": field.dtype.toString(), "default": str(field.default_value)}
                for field in self._dataset.getFields()
            ],
            "times": [float(time) for time in self._dataset.getTimesteps().asVector()],
            "box": [[int(point[axis]) for axis in range(dims)] for point in (box.p1, box.p2)],
            "bitmask": self._dataset.getBitmask().toString(),
            "bits_per_block": int(idx.bitsperblock),
        }, b""

    def _read(self, question: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """A box at full resolution, block by block: OpenVisus itself passes over blocks that it cannot read."""
        name, time = question["field"], float(question["time"])
        dataset, field = self._dataset, self._dataset.getField(name)
        query = dataset.createBoxQuery(self._box(question["box"]), field, time, ord("r"))
        query.end_resolutions.push_back(dataset.getMaxResolution())
        dataset.beginBoxQuery(query)
        if not query.isRunning() or not query.allocateBufferIfNeeded():
            return {"error": f"OpenVisus cannot read this box: {query.errormsg}"}, b""
        access = dataset.createAccess()
        access.beginRead()
        try:
            for block in dataset.createBlockQueriesForBoxQuery(query):
                found = self._block(access, field, name, time, int(block))
                if isinstance(found, str):
                    return {"error": found}, b""
                if found is not None and not dataset.mergeBoxQueryWithBlockQuery(query, found):
                    return {"error": f"OpenVisus cannot place block {block}"}, b""
        finally:
            access.endRead()
        values = self._visus.Array.toNumPy(query.buffer, bShareMem=True)
        return {"shape": values.shape, "dtype": values.dtype.str}, values.tobytes()

    def _block(self, access: Any, field: Any, name: str, time: float, block: int) -> Any:
        """A block; None for one that was never written; why not, where it cannot be read."""
        number = self._field_names.index(name)
        if (number, time, block) in self._kept:
            return self._kept[number, time, block]
        query = self._dataset.createBlockQuery(block, field, time, ord("r"))
        self._dataset.executeBlockQueryAndWait(access, query)
        assert self._blocks is not None
        if not query.ok():
            return self._blocks.trouble(block, number, time)
        if block < _KEPT_BLOCKS:
            if len(self._kept) >= 4 * _KEPT_BLOCKS:
                self._kept.clear()
            self._kept[number, time, block] = query
        return query

    # -- writing -------------------------------------------------------------------------------

    def _create(self, question: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        self._dataset = self._made(question)
        return {"bitmask": self._dataset.getBitmask().toString()}, b""

    def _made(self, question: Mapping[str, Any]) -> Any:
        """A new IDX without blocks."""
        visus = self._visus
        idx = visus.IdxFile()
        lengths = visus.PointNi([int(length) for length in question["lengths"]])
        idx.logic_box = visus.BoxNi(visus.PointNi.zero(lengths.getPointDim()), lengths)
        for field in question["fields"]:
            idx.fields.push_back(visus.Field.fromString(field))
        if question.get("physical"):
            low, high = zip(*question["physical"], strict=True)
            idx.bounds = visus.Position(visus.BoxNd(visus.PointNd(*low), visus.PointNd(*high)))
        idx.axis = " ".join(question["axes"])
        idx.filename_template = question["template"]
        if question["times"] > 1:
            idx.timesteps = visus.DatasetTimesteps(0, question["times"] - 1, 1.0)
            idx.time_template = question["time_template"]
        idx.save(question["path"])
        return visus.LoadDataset(question["path"]).db

    def _write(self, question: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        import numpy as np

        visus, dataset = self._visus, self._dataset
        values = np.frombuffer(self._questions.read(question["bytes"]), question["dtype"])
        field = dataset.getField(question["field"])
        box = self._box(question["box"])
        query = dataset.createBoxQuery(box, field, float(question["time"]), ord("w"))
        query.end_resolutions.push_back(dataset.getMaxResolution())
        dataset.beginBoxQuery(query)
        if not query.isRunning():
            return {"error": f"OpenVisus cannot write this box: {query.errormsg}"}, b""
        buffer = visus.Array.fromNumPy(values, bShareMem=True)
        buffer.resize(box.size(), query.field.dtype, __file__, 0)
        query.buffer = buffer
        if not dataset.executeBoxQuery(self._access(), query):
            return {"error": f"OpenVisus did not write this box: {query.errormsg}"}, b""
        return {}, b""

    def _pack(self, question: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Copy every block that was written into a new IDX of the same box, whose fields are compressed."""
        source, field_names = self._dataset, [field.name for field in self._dataset.getFields()]
        target = self._made(question)
        reading, writing = self._access(), target.createAccessForBlockQuery()
        writing.disableWriteLocks()
        reading.beginRead()
        writing.beginWrite()
        written = 0
        try:
            for name in field_names:
                for time in source.getTimesteps().asVector():
                    for block in range(int(source.getTotalNumberOfBlocks())):
                        read = source.createBlockQuery(block, source.getField(name), float(time), ord("r"))
                        source.executeBlockQueryAndWait(reading, read)
                        if not read.ok():
                            continue  # it lies outside the box
                        write = target.createBlockQuery(block, target.getField(name), float(time), ord("w"))
                        write.buffer = read.buffer
                        target.executeBlockQueryAndWait(writing, write)
                        if not write.ok():
                            return {"error": f"OpenVisus did not write block {block}"}, b""
                        written += 1
        finally:
            writing.endWrite()
            reading.endRead()
        return {"blocks": written}, b""

    def _access(self) -> Any:
        access = self._dataset.createAccessForBlockQuery()
        access.disableWriteLocks()
        access.disableCompression()
        return access

    def _box(self, corners: Any) -> Any:
        low, high = ([int(each) for each in corner] for corner in corners)
        return self._visus.BoxNi(self._visus.PointNi(low), self._visus.PointNi(high))


if __name__ == "__main__":
    main()
