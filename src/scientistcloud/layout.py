"""Where each thing lies under `DATA_DIR`: names and paths alone, no I/O.

The tree is drawn in ``docs/reference/files.md``. Nothing else in the project spells these names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scientistcloud.errors import InvalidParameters

CONVERTED = "converted.ome.zarr"
CONVERTED_IDX = "converted.idx"
CONVERTED_BLOCKS = "converted"
"""The form where IDX was asked for, and the folder of its blocks."""
PREVIEW = "preview.webp"
QUICKLOOK = "quicklook.ome.zarr"
_NAME_BYTES = 255  # of Linux file systems
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")


def partial_of(output: Path, process: int) -> Path:
    """Where the process converts that is to become `output`."""
    return output.with_name(f".{output.name}.{process}.partial")


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The folder `DATA_DIR`."""

    root: Path

    @property
    def installation_id(self) -> Path:
        return self.root / "installation-id"

    @property
    def portal(self) -> Path:
        """Address and token of the running portal, mode 0600."""
        return self.root / "portal.json"

    @property
    def token(self) -> Path:
        """The local log-in's token, mode 0600, where no setting gives one."""
        return self.root / "token"

    @property
    def sealing_key(self) -> Path:
        """What opens the credentials of remote sources, mode 0600."""
        return self.root / "sealing-key"

    @property
    def database(self) -> Path:
        return self.root / "scientistcloud.db"

    @property
    def bell(self) -> Path:
        """The FIFO by which processes of one machine wake each other beside a database server."""
        return self.root / "queue.wake"

    @property
    def uploads(self) -> Path:
        return self.root / "uploads"

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def workers(self) -> Path:
        return self.root / "workers"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def upload(self, upload_id: str) -> Path:
        return self.uploads / _plain(upload_id)

    def dataset(self, dataset_uuid: str) -> DatasetFolder:
        return DatasetFolder(self.datasets / _plain(dataset_uuid))

    def worker_lock(self, worker_id: str) -> Path:
        return self.workers / f"{_plain(worker_id)}.lock"

    def log(self, job_id: str) -> Path:
        return self.logs / f"{_plain(job_id)}.log"


@dataclass(frozen=True, slots=True)
class DatasetFolder:
    """The folder of one data set."""

    root: Path

    @property
    def source(self) -> Path:
        """The files as they came; never altered."""
        return self.root / "source"

    @property
    def converted(self) -> Path:
        """The converted form; appears whole or not at all."""
        return self.root / CONVERTED

    @property
    def preview(self) -> Path:
        return self.root / PREVIEW

    @property
    def quicklook(self) -> Path:
        """Coarse levels while the first conversion runs, with a preview inside; gone with its end."""
        return self.root / QUICKLOOK

    @property
    def guard(self) -> Path:
        """The file whose lock lets forms be moved; see `storage.local`."""
        return self.root / ".guard"

    @property
    def guarded(self) -> Path:
        """Who published what; written under the lock of `guard`."""
        return self.root / ".guard.json"

    @property
    def recipes(self) -> Path:
        """A line of JSON for each form that was ever published: what has to be said to make it again."""
        return self.root / "recipes.jsonl"

    def partial(self, token: int) -> Path:
        """An attempt's output until it is published."""
        return self.root / f"partial.{token}"

    def aside(self, token: int) -> Path:
        """The form that the publication with `token` replaced."""
        return self.root / f"aside.{token}"

    def kept(self, job_id: str) -> Path:
        """What a job keeps for its next attempt."""
        return self.root / f"kept.{_plain(job_id)}"

    def arrived(self, token: int) -> Path:
        """The list of the source files that an attempt brought, until their records are written."""
        return self.root / f".arrived.{token}"


def _plain(name: str) -> str:
    """`name`, if it is one plain path component; identifiers are ours, but they travel through others' hands."""
    if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise InvalidParameters(f"{name!r} is no identifier of ScientistCloud; use the one it gave you")
    return name


def source_path(name: str) -> PurePosixPath:
    """The place of a file called `name` below a data set's `source/`. Raises as `checked_path` does."""
    return PurePosixPath(checked_path(name))


def checked_path(name: str) -> str:
    """`name`, if it can be the place of a file below a data set's `source/`; else `InvalidParameters`.

    Kept exactly as it came (emoji and ``<script>`` are only characters); refused are absolute names, ``.`` and
    ``..``, empty parts, backslashes, control characters and parts that no file system could hold.
    """
    parts = name.split("/")
    if not name or "" in parts or "." in parts or ".." in parts:
        raise InvalidParameters(
            f"the file name {name!r} is not a plain relative name; send it without '..', '.' or a leading '/'"
        )
    if _UNSAFE.search(name):
        raise InvalidParameters(f"the file name {name!r} holds a backslash or control character; rename the file")
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise InvalidParameters(f"the file name {name!r} is not valid Unicode; rename the file") from None
    if len(encoded) > _NAME_BYTES and (len(encoded) > 4000 or max(map(len, encoded.split(b"/"))) > _NAME_BYTES):
        raise InvalidParameters(f"the file name {name[:60]!r}… is longer than 255 bytes a part; rename the file")
    return name
