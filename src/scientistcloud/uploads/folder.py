"""All uploads of a data folder: opened where there is room for them, found, ended, kept in mind for a while."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from scientistcloud.errors import InvalidParameters, NoSpace, NotFound, TooLarge, TooMany
from scientistcloud.layout import DataFolder
from scientistcloud.ports import Clock
from scientistcloud.settings import DISK_RESERVE_SHARE, Settings
from scientistcloud.uploads.ended import EndedLog
from scientistcloud.uploads.record import (
    DATA,
    INFO,
    Upload,
    out_of_space,
    read_upload,
    sync_folder,
    write_upload,
)
from scientistcloud.uploads.session import WRITER, Digests, WriterFile, Writing, locked, remove_quietly

# A client whose last answer was lost asks again, and must not send everything a second time.
REMEMBERED = timedelta(days=1)
_ABANDONED = timedelta(hours=1)
_ID = re.compile(r"[0-9a-f]{32}")
_NEW, _ENDED, _LOCK = ".new-", ".ended", ".lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """How it stands with what comes in, for operators."""

    #: Uploads that wait for bytes, or to be put in their place.
    open_uploads: int
    #: Of them, those that nobody has added to for long enough to be removed.
    expired_uploads: int
    #: What they may still bring.
    missing_bytes: int
    free_bytes: int
    #: Kept free: an upload that would touch it is refused.
    reserve_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may come in."""

    max_upload_bytes: int | None = None
    #: Of one person's data sets and uploads together.
    quota_bytes: int | None = None
    #: Kept free; None: 5 % of the disk.
    disk_reserve_bytes: int | None = None
    #: An upload lives so long after its last byte.
    expiry: timedelta = timedelta(days=7)
    #: Of one person at a time.
    max_open_uploads: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(
            max_upload_bytes=settings.max_upload_bytes,
            quota_bytes=settings.quota_bytes,
            disk_reserve_bytes=settings.disk_reserve_bytes,
            expiry=timedelta(days=settings.upload_expiry_days),
            max_open_uploads=settings.max_open_uploads,
        )


class UploadsFolder:
    """The folder ``uploads/`` of a data folder. Safe between threads and processes."""

    def __init__(self, folder: DataFolder, *, clock: Clock, limits: Limits) -> None:
        self.limits = limits
        self.digests = Digests()
        self._folder = folder
        self._root = folder.uploads
        self._clock = clock
        #: Of those that needed no folder.
        self.ended = EndedLog(self._root / _ENDED, clock=clock)
        # What was read once of an upload is not read again, save for what changes: offset, expiry, digest.
        self._facts: dict[str, Upload] = {}

    # -- opening ---------------------------------------------------------------------------------

    def create(
        self,
        *,
        dataset_uuid: str,
        user: str,
        path: str,
        length_bytes: int | None,
        metadata: str,
        closes: bool,
        concat: str = "",
        parts: Sequence[Upload] = (),
        reserved_bytes: int = 0,
        stored_bytes: Callable[[], int] = lambda: 0,
        durable: bool = True,
    ) -> Upload:
        """Open an upload and reserve the room for it: all of it or nothing. `durable` as in `Writing`.

        `length_bytes` None: its sender does not know yet, and room is reserved as bytes come, for
        `reserved_bytes` at once. `parts`: what it will be put together from. `stored_bytes`: what the person's data
        sets take already, asked for under a quota only. Raises `TooLarge` beyond a limit or the quota, `TooMany`,
        `NoSpace` where the disk's reserve would be touched.
        """
        upload_id = uuid.uuid4().hex
        new = self._root / f"{_NEW}{upload_id}"
        self.require_allowed(path, length_bytes)
        try:
            with out_of_space(f"the upload of {path!r}"):
                new.mkdir(parents=True)
                handle = os.open(new / DATA, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
                inode = os.fstat(handle).st_ino
                os.close(handle)
                (new / WRITER).write_text(f"{0:<20}")
            now = self._clock.now()
            upload = Upload(
                upload_id=upload_id,
                dataset_uuid=dataset_uuid,
                user=user,
                path=path,
                length_bytes=length_bytes,
                reserved_bytes=reserved_bytes if length_bytes is None else length_bytes,
                metadata=metadata,
                concat=concat,
                parts=tuple(part.upload_id for part in parts),
                closes=closes,
                created_at=now,
                expires_at=now + self.limits.expiry,
                sha256=hashlib.sha256().hexdigest() if length_bytes == 0 else None,
                inode=inode,
            )
            write_upload(new, upload, durable=durable)
            if durable:
                sync_folder(new)
            with self._alone():
                self._require_room(upload, stored_bytes)
                new.rename(self._place(upload_id))
                self._facts[upload_id] = upload
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        if durable:
            sync_folder(self._root)
        return upload

    def grow(
        self, writing: Writing, reserved_bytes: int, *, final: bool, stored_bytes: Callable[[], int] = lambda: 0
    ) -> None:
        """Reserve the room for an upload whose length was not known; `final`: now it is, and it is this.

        Raises `InvalidParameters` where more is there already, else as `create`.
        """
        upload = writing.upload
        if final and reserved_bytes < upload.offset_bytes:
            raise InvalidParameters(
                f"Upload-Length is {reserved_bytes}, but {upload.offset_bytes} bytes are here; say how long it is"
            )
        self.require_allowed(upload.path, reserved_bytes)
        grown = replace(
            upload, reserved_bytes=reserved_bytes, length_bytes=reserved_bytes if final else upload.length_bytes
        )
        with self._alone():
            if reserved_bytes > upload.reserved_bytes:
                self._require_room(grown, stored_bytes)
            writing.note(reserved_bytes=grown.reserved_bytes, length_bytes=grown.length_bytes)
            self._facts[upload.upload_id] = grown

    def require_room(self, upload: Upload, stored_bytes: Callable[[], int]) -> None:
        """Raises `NoSpace` or `TooLarge` where there is no room any more for what the upload reserved."""
        with self._alone():
            self._require_room(upload, stored_bytes)

    @contextmanager
    def room(self, upload: Upload, stored_bytes: Callable[[], int]) -> Iterator[None]:
        """Room for what the upload brings, all at once. Under a quota nobody else takes any meanwhile.

        Raises as `require_room`.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        with self._alone():
            self._require_room(upload, stored_bytes)
            if self.limits.quota_bytes is not None:
                yield
                return
        yield

    def require_allowed(self, path: str, length_bytes: int | None) -> None:
        """Raises `TooLarge` for a file beyond what one upload may bring."""
        most = self.limits.max_upload_bytes
        if most is not None and length_bytes is not None and length_bytes > most:
            raise TooLarge(f"{path!r} has {length_bytes} bytes, more than the {most} that are taken in one upload")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One opening at a time, so that two do not take the same room."""
        handle = os.open(self._root / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            with locked(handle, "the folder of uploads"):
                yield
        finally:
            os.close(handle)

    def _require_room(self, upload: Upload, stored_bytes: Callable[[], int]) -> None:
        others = [each for each in self._known_waiting() if each.upload_id != upload.upload_id]
        most = self.limits.max_open_uploads
        if most is not None and sum(each.user == upload.user for each in others) >= most:
            others = self._still_waiting(others)
            if sum(each.user == upload.user for each in others) >= most:
                raise TooMany(
                    f"{most} of your uploads wait for bytes, and no more are opened; finish or cancel some of them"
                )
        free_bytes, reserve_bytes = self._disk()
        room = free_bytes - reserve_bytes
        needed = upload.reserved_bytes - upload.offset_bytes
        promised = sum(each.reserved_bytes for each in others)
        # Most of what is promised may have arrived already, and so be no longer free: looked at only if it matters.
        if promised + needed > room:
            promised = sum(map(self._missing_bytes, others))
        if promised + needed > room:
            raise NoSpace(
                f"{_named(upload)} needs {needed} bytes, and {max(0, room - promised)} are left on the "
                "server's disk; ask its operator for space, or delete data sets"
            )
        quota = self.limits.quota_bytes
        if quota is None:
            return
        taken = stored_bytes() + self._taken_bytes(upload, others)
        if taken + upload.reserved_bytes > quota:
            taken = stored_bytes() + self._taken_bytes(upload, self._still_waiting(others))
        if taken + upload.reserved_bytes > quota:
            raise TooLarge(
                f"{_named(upload)} needs {upload.reserved_bytes} bytes, and {max(0, quota - taken)} are left of "
                f"your {quota}; delete data sets or cancel uploads"
            )

    def _disk(self) -> tuple[int, int]:
        """What is free of the disk, and how much of that is kept so."""
        disk = shutil.disk_usage(next(each for each in (self._root, *self._root.parents) if each.exists()))
        reserve = self.limits.disk_reserve_bytes
        return disk.free, int(disk.total * DISK_RESERVE_SHARE) if reserve is None else reserve

    def overview(self) -> Overview:
        """How it stands now. Looks at every upload."""
        waiting = self._still_waiting(list(self.unfinished()))
        now = self._clock.now()
        free_bytes, reserve_bytes = self._disk()
        return Overview(
            open_uploads=len(waiting),
            expired_uploads=sum(upload.expires_at < now for upload in waiting),
            missing_bytes=sum(map(self._missing_bytes, waiting)),
            free_bytes=free_bytes,
            reserve_bytes=reserve_bytes,
        )

    def _taken_bytes(self, upload: Upload, others: Sequence[Upload]) -> int:
        """What the person's other uploads take of the quota; parts count once, as what they will make."""
        used = {part for each in (upload, *others) for part in each.parts}
        return sum(
            each.reserved_bytes for each in others if each.user == upload.user and each.upload_id not in used
        )

    def reserved_bytes(self, user: str) -> int:
        """What `user`'s open uploads take of the quota."""
        waiting = self._still_waiting([each for each in self.unfinished() if each.user == user])
        used = {part for each in waiting for part in each.parts}
        return sum(each.reserved_bytes for each in waiting if each.upload_id not in used)

    def _known_waiting(self) -> list[Upload]:
        """The uploads that have a folder; a few of them may have all their bytes, and offsets may be old."""
        facts: dict[str, Upload] = {}
        for upload_id in self._ids():
            upload = self._facts.get(upload_id)
            if upload is None or upload.length_bytes is None:  # what it reserves may have grown
                upload = read_upload(self._place(upload_id) / INFO)
            if upload is not None:
                facts[upload_id] = upload
        self._facts = facts
        return list(facts.values())

    def _still_waiting(self, uploads: Sequence[Upload]) -> list[Upload]:
        """Those of `uploads` that are not in their place yet."""
        return [each for each in uploads if (self._place(each.upload_id) / DATA).exists()]

    def _missing_bytes(self, upload: Upload) -> int:
        try:
            return max(0, upload.reserved_bytes - (self._place(upload.upload_id) / DATA).stat().st_size)
        except FileNotFoundError:
            return 0

    # -- finding ---------------------------------------------------------------------------------

    def get(self, upload_id: str) -> Upload | None:
        """The upload, one that ended lately too; None where there is none."""
        if not _ID.fullmatch(upload_id):
            return None
        return (
            read_upload(self._place(upload_id) / INFO)
            or read_upload(self._ended(upload_id))
            or self.ended.find(upload_id)
        )

    def data(self, upload_id: str) -> Path:
        """Where the bytes of an upload lie until it is complete; those beyond its offset are no promise."""
        return self._place(upload_id) / DATA

    def unfinished(self) -> Iterator[Upload]:
        """Each upload that has a folder."""
        for upload_id in self._ids():
            upload = read_upload(self._place(upload_id) / INFO)
            if upload is not None:
                yield upload

    def rivals(self, upload: Upload, paths: Collection[str]) -> list[str]:
        """Other uploads of these files of the upload's data set that wait for bytes."""
        return [
            each.upload_id
            for each in self._known_waiting()
            if each.dataset_uuid == upload.dataset_uuid
            and each.path in paths
            and each.upload_id != upload.upload_id
            and each.path
        ]

    def _ids(self) -> list[str]:
        try:
            return [entry.name for entry in os.scandir(self._root) if _ID.fullmatch(entry.name)]
        except FileNotFoundError:
            return []

    # -- changing --------------------------------------------------------------------------------

    def write(self, upload_id: str, *, durable: bool = True) -> Writing:
        """Become the newest writer of the upload; the older one ends. Raises `NotFound`, `Unavailable`."""
        return Writing(
            self._known(upload_id),
            clock=self._clock,
            expiry=self.limits.expiry,
            digests=self.digests,
            durable=durable,
        )

    @contextmanager
    def held(self, upload_id: str, *, seconds: float | None = None) -> Iterator[tuple[Upload, Path]]:
        """The upload and where its bytes lie, while nobody else changes it. Raises `NotFound`, `Unavailable`."""
        folder = self._known(upload_id)
        writer = WriterFile(folder)
        try:
            with writer.held() if seconds is None else writer.held(seconds=seconds):
                upload = read_upload(folder / INFO)
                if upload is None:
                    raise writer.missing()
                yield upload, folder / DATA
        finally:
            writer.close()

    def note(self, upload: Upload, *, sha256: str) -> None:
        """Keep the digest that was computed behind the upload. To be called while it is held."""
        write_upload(self._place(upload.upload_id), replace(upload, sha256=sha256), name=f"{INFO}.digest").rename(
            self._place(upload.upload_id) / INFO
        )

    def end(self, upload: Upload, *, remember: bool) -> None:
        """Remove the upload's folder; with `remember`, `get` knows it for another day. While it is held."""
        folder = self._place(upload.upload_id)
        self.digests.forget(upload.upload_id)
        if remember:
            self._ended(upload.upload_id).parent.mkdir(exist_ok=True)
            (folder / INFO).rename(self._ended(upload.upload_id))
        else:
            (folder / INFO).unlink()
        # Without its info.json the folder is no upload any more; who waits for the lock must learn it too.
        writer = WriterFile(folder)
        try:
            writer.mark_gone()
        finally:
            writer.close()
        shutil.rmtree(folder, ignore_errors=True)

    def expired(self) -> Iterator[Upload]:
        """Uploads to which nothing was added for too long; whoever removes one has to look again, held."""
        now = self._clock.now()
        return (upload for upload in self.unfinished() if upload.expires_at < now)

    def sweep(self) -> None:
        """Remove what openings and endings that were cut short left, and forget what ended a day ago."""
        now = self._clock.now()
        with suppress(FileNotFoundError):
            for entry in list(os.scandir(self._root)):
                with suppress(FileNotFoundError):
                    is_left = entry.name.startswith(_NEW) or (
                        _ID.fullmatch(entry.name) and not Path(entry.path, INFO).exists()
                    )
                    if is_left and now.timestamp() - entry.stat().st_mtime > _ABANDONED.total_seconds():
                        shutil.rmtree(entry.path, ignore_errors=True)
        with suppress(FileNotFoundError):
            for entry in list(os.scandir(self._root / _ENDED)):
                with suppress(FileNotFoundError):
                    if now.timestamp() - entry.stat().st_mtime > REMEMBERED.total_seconds():
                        remove_quietly(Path(entry.path))

    def _known(self, upload_id: str) -> Path:
        if not _ID.fullmatch(upload_id):
            raise NotFound(f"there is no upload {upload_id[:60]!r}; begin a new one")
        return self._place(upload_id)

    def _place(self, upload_id: str) -> Path:
        return self._folder.upload(upload_id)

    def _ended(self, upload_id: str) -> Path:
        return self._root / _ENDED / f"{upload_id}.json"


def _named(upload: Upload) -> str:
    return repr(upload.path) if upload.path else "what you send"
