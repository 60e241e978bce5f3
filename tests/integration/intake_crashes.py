"""Crashes at each line of a completion in turn, each healed by a fresh start. Run as a program.

A child completes an upload (or closes a data set, takes a small file, registers a file that lies elsewhere, or
notices that it changed) and dies without a word at the n-th line that it executes in some modules; then another
process recovers. n grows until the child comes to its end.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from scientistcloud.assembly import open_store
from scientistcloud.datasets import catalogue
from scientistcloud.ports import Store
from scientistcloud.records import DatasetStatus
from scientistcloud.uploads.folder import Limits
from scientistcloud.uploads.processor import UploadProcessor
from scientistcloud.uploads.receiving import SmallFile
from scientistcloud.uploads.record import Upload
from scientistcloud.uploads.registering import Registrar

CRASHED = 77
REGISTERS = ("register", "change")


def main(act: str, modules: set[str], root: Path) -> int:
    start = root / "start"
    folder = root / "now"
    a_processor(root)[0].close()  # so that no child has to import what opens a store
    in_a_child(prepare, act, start)
    for crash_at in count(1):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, folder, ignore=shutil.ignore_patterns("*.wake"))  # a FIFO
        ended = in_a_child(work, act, folder, modules, crash_at)
        if in_a_child(check, act, folder, f"crashed at line {crash_at}"):
            return 1
        if ended != CRASHED:
            print("crashes healed:", crash_at - 1)
            return ended
    return 1


def in_a_child(call: Callable[..., None], *arguments: object) -> int:
    """The status of a child that called it: no thread or connection of a store lives when the next is forked."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        call(*arguments)
    except BaseException:  # noqa: BLE001  # nothing of the parent's may go on in here
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def a_processor(folder: Path) -> tuple[Store, UploadProcessor]:
    store = open_store(f"sqlite:///{folder / 'scientistcloud.db'}")
    return store, UploadProcessor(store, data_dir=folder, limits=Limits(disk_reserve_bytes=0))


def prepare(act: str, folder: Path) -> None:
    """An upload that waits for its bytes; or a small file that is to be replaced."""
    folder.mkdir()
    store, processor = a_processor(folder)
    if act in REGISTERS:
        a_file_elsewhere(folder, b"first")
        if act == "change":
            list(a_registrar(act, store, folder).look(first=True))
            a_file_elsewhere(folder, b"then more")
        store.close()
        return
    dataset = None if act == "complete" else catalogue.open_dataset(store, user="ada", name="x")
    if act == "small":
        assert dataset is not None
        take(processor, dataset.uuid, b"old")
        processor.small.close()
    else:
        processor.open_upload(user="ada", path="sub/a.tif", length_bytes=5, dataset=dataset)
    store.close()


def a_file_elsewhere(folder: Path, content: bytes) -> None:
    place = folder.parent / "elsewhere" / "a.tif"
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content)
    os.utime(place, (1e9 + len(content), 1e9 + len(content)))


def a_registrar(act: str, store: Store, folder: Path) -> Registrar:
    root = folder.parent / "elsewhere"
    looks = act == "register"
    return Registrar(store, root, roots=(root,), user="ada", quiet_seconds=60, look=looks, convert=not looks)


def take(processor: UploadProcessor, dataset_uuid: str, content: bytes) -> None:
    file = SmallFile(dataset_uuid=dataset_uuid, user="ada", path="sub/a.tif", content=content)
    [took] = processor.take_small([file])
    assert isinstance(took, Upload), took


def work(act: str, folder: Path, modules: set[str], crash_at: int) -> None:
    store, processor = a_processor(folder)
    if act in REGISTERS:
        registrar = a_registrar(act, store, folder)
    elif act == "small":
        [dataset] = processor.store.datasets.find(user="ada")
    else:
        [upload] = processor.uploads.unfinished()
        writing = processor.uploads.write(upload.upload_id)
        writing.write([b"bytes"])
        writing.checkpoint()
        writing.close()
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        code = frame.f_code
        if not modules & {Path(code.co_filename).name, code.co_name}:
            return None
        if event == "line":
            lines += 1
            if lines == crash_at:
                os._exit(CRASHED)
        return trace

    sys.settrace(trace)
    if act in REGISTERS:
        list(registrar.look(first=True))
    elif act == "small":
        take(processor, dataset.uuid, b"bytes")
    elif act == "close":
        processor.close(upload.dataset_uuid)
    else:
        processor.complete(upload.upload_id)
    sys.settrace(None)


def check(act: str, folder: Path, when: str) -> None:
    store, processor = a_processor(folder)
    if act in REGISTERS:
        check_registered(act, store, folder, when)
        return
    processor.recover()
    [dataset] = store.datasets.find(user="ada")
    if act == "small":
        assert list((folder / "uploads").glob(".small-*")) == [], when
        [kept] = store.datasets.files(dataset.uuid)
        place = processor.places.of(dataset.uuid, "sub/a.tif")
        assert hashlib.sha256(place.read_bytes()).hexdigest() == kept.sha256, when
        take(processor, dataset.uuid, b"bytes")  # its sender got no answer
    if act in ("close", "small"):
        dataset = processor.close(dataset.uuid)  # the client's next request
    jobs = store.jobs.find(dataset_uuid=dataset.uuid)
    source = folder / "datasets" / dataset.uuid / "source" / "sub" / "a.tif"
    assert [job.idempotency_key for job in jobs] == [f"convert:{dataset.uuid}:1"], when
    assert dataset.status is DatasetStatus.CONVERSION_QUEUED, when
    assert dataset.closed_at is not None, when
    assert [(file.path, file.size_bytes) for file in store.datasets.files(dataset.uuid)] == [("sub/a.tif", 5)], when
    assert dataset.size_bytes == 5, when
    assert source.read_bytes() == b"bytes", when
    assert list(processor.uploads.unfinished()) == [], when


def check_registered(act: str, store: Store, folder: Path, when: str) -> None:
    list(a_registrar(act, store, folder).look(first=True))
    [dataset] = store.datasets.find(user="ada")
    keys = {job.idempotency_key for job in store.jobs.find(dataset_uuid=dataset.uuid)}
    size_bytes = (folder.parent / "elsewhere" / "a.tif").stat().st_size
    assert [(file.path, file.size_bytes) for file in store.datasets.files(dataset.uuid)] == [("a.tif", size_bytes)]
    if act == "register":
        assert (dataset.status, keys) == (DatasetStatus.DONE, {f"look:{dataset.uuid}:1"}), when
        return
    # The last job may still be owed: care creates it.
    promised = {dataset.wanted.idempotency_key} if dataset.wanted is not None else set()
    assert f"convert:{dataset.uuid}:{dataset.revision}" in keys | promised, when
    assert (dataset.revision > 1, "1 file changed (a.tif)" in (dataset.notice or "")) == (True, True), when


if __name__ == "__main__":
    # A killed process loses nothing that it wrote, whatever holds the files: memory is as good, and faster.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else sys.argv[3]) as scratch:
        sys.exit(main(sys.argv[1], set(sys.argv[2].split(",")), Path(scratch)))
