"""What is known of one upload: the file `info.json` of its folder, replaced whole."""

from __future__ import annotations

import ctypes
import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from scientistcloud.errors import NoSpace

INFO, DATA = "info.json", "data"
PARTIAL = "partial"
BATCH = "batch"

# Of Linux; Python has no names for them.
_SYNCFS = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
_WRITE_SOON = getattr(ctypes.CDLL(None), "sync_file_range", None)
if _WRITE_SOON is not None:
    _WRITE_SOON.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_BEGIN = 2  # SYNC_FILE_RANGE_WRITE
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What `info.json` says."""

    upload_id: str
    #: "" for a part that belongs to no data set yet.
    dataset_uuid: str
    #: The e-mail of who sends it.
    user: str
    #: Where the file goes, relative to the data set's `source/`; "" for a part and a batch.
    path: str
    #: None until its sender knows.
    length_bytes: int | None
    #: So many bytes are durable.
    offset_bytes: int = 0
    #: For so many bytes there is room: the length, where it is known.
    reserved_bytes: int = 0
    #: `Upload-Metadata` as it came.
    metadata: str = ""
    #: `Upload-Concat` as it came: "", `partial`, or `final;` and the addresses of its parts; `batch` is ours.
    concat: str = ""
    #: The uploads whose bytes, one after the other, are this one's; () for one that is sent.
    parts: tuple[str, ...] = ()
    #: The data set was opened by this upload alone, whose completion closes it.
    closes: bool
    created_at: datetime
    #: Slides with each checkpoint.
    expires_at: datetime
    #: Hex, once complete; None where it has to be computed from the file.
    sha256: str | None = None
    #: Of `data`: tells after a crash whether the file in its place is ours.
    inode: int

    @property
    def complete(self) -> bool:
        return self.offset_bytes == self.length_bytes

    @property
    def is_part(self) -> bool:
        """A part of a file, which waits for the others and for who puts them together."""
        return self.concat == PARTIAL

    @property
    def is_batch(self) -> bool:
        """Many small files in one; see `uploads.batch`."""
        return self.concat == BATCH


_NAMES = tuple(field.name for field in fields(Upload))


def read_upload(path: Path) -> Upload | None:
    """What the `info.json` at `path` says; None where there is none."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    return from_json(text) if text.strip(b"\0") else None  # a power cut may leave a file of zeros


def from_json(text: bytes) -> Upload:
    values: dict[str, Any] = json.loads(text)
    for name in ("created_at", "expires_at"):
        values[name] = datetime.fromisoformat(values[name])
    return Upload(
        **values
        | {
            "parts": tuple(values.get("parts", ())),
            "reserved_bytes": values.get("reserved_bytes", values["length_bytes"]),
        }
    )


def to_json(upload: Upload) -> str:
    values = {name: getattr(upload, name) for name in _NAMES}
    for name in ("created_at", "expires_at"):
        values[name] = values[name].isoformat()
    return json.dumps(values)


def write_upload(folder: Path, upload: Upload, *, name: str = INFO, durable: bool = True) -> Path:
    """Write `upload` to the file `name` of `folder`; its entry there is made durable by `sync_folder`."""
    path = folder / name
    with out_of_space("what is known of the upload"), path.open("w") as file:
        file.write(to_json(upload))
        file.flush()
        if durable:
            os.fsync(file.fileno())
    return path


def sync_folder(path: Path) -> None:
    """Make the names in the folder `path` durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_files(folder: int, names: Sequence[str]) -> None:
    """Make what is in these files of the open folder durable."""
    handles: list[int] = []
    try:
        for name in names:
            handles.append(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder))
            if _WRITE_SOON is not None and len(names) > 1:
                _WRITE_SOON(handles[-1], 0, 0, _BEGIN)  # all are under way before the first is waited for
        for handle in handles:
            os.fdatasync(handle)
    finally:
        for handle in handles:
            os.close(handle)


def sync_disk(handle: int) -> None:
    """Make everything durable that was written to the file system of the open file `handle`."""
    if _SYNCFS is None:
        return os.sync()
    if _SYNCFS(handle):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return None


@contextmanager
def out_of_space(what: str) -> Iterator[None]:
    """Turn a full disk into `NoSpace`."""
    try:
        yield
    except OSError as full:
        if full.errno not in _NO_SPACE:
            raise
        raise NoSpace(f"the disk is full, {what} could not be written; free some space, then go on") from full
