"""Uploads of one store and data folder: opened, grown, completed, given up.

What is complete is renamed into ``datasets/UUID/source/``, recorded, and closes the data set that was opened for
it; see `uploads.processor` for the order of these steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from scientistcloud.datasets import catalogue
from scientistcloud.errors import InvalidTransition, NoSpace, NotFound, ScientistCloudError, TooLarge
from scientistcloud.jobs.parameters import PARAMETERS_LIMIT_BYTES
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.layout import DataFolder, source_path
from scientistcloud.ports import Store
from scientistcloud.records import Dataset, DatasetFile, DatasetStatus
from scientistcloud.uploads.batch import LARGEST_BYTES, Arrived, Batch, require_plain
from scientistcloud.uploads.closing import DatasetCloser
from scientistcloud.uploads.folder import Limits, UploadsFolder
from scientistcloud.uploads.parts import MissingPart, put_together
from scientistcloud.uploads.record import BATCH, PARTIAL, Upload
from scientistcloud.uploads.session import Writing
from scientistcloud.uploads.small import SmallFiles
from scientistcloud.uploads.telling import tell


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallFile:
    """A file that is here as a whole."""

    dataset_uuid: str
    #: The e-mail of who sent it.
    user: str
    path: str
    content: bytes
    #: `Upload-Metadata` as it came.
    metadata: str = ""


class UploadReceiver(DatasetCloser):
    """Takes in what is sent, on one store and data folder. Threads and processes may share both.

    Parameters
    ----------
    data_dir
        The data folder; uploads and data sets lie in it, on one file system.
    limits
        None: no limits but the disk's reserve of 5 %.
    max_pending_per_dataset, max_parameters_bytes
        As in `JobQueueManager`.
    """

    def __init__(
        self,
        store: Store,
        *,
        data_dir: Path,
        limits: Limits | None = None,
        max_pending_per_dataset: int | None = None,
        max_parameters_bytes: int = PARAMETERS_LIMIT_BYTES,
    ) -> None:
        super().__init__(
            store,
            folder=DataFolder(Path(data_dir).absolute()),
            limits=limits or Limits(),
            queue=JobQueueManager(
                store, max_pending_per_dataset=max_pending_per_dataset, max_parameters_bytes=max_parameters_bytes
            ),
        )
        self.uploads = UploadsFolder(self.folder, clock=store.clock, limits=self.limits)
        self.small = SmallFiles(self.folder.uploads, place=self._place_batch)
        store.share_bell(self.folder.bell)
        self._digesting: set[str] = set()
        self._stopping = Event()

    # -- uploads ---------------------------------------------------------------------------------

    def open_upload(
        self,
        *,
        user: str,
        path: str,
        length_bytes: int | None,
        dataset: Dataset | None = None,
        name: str | None = None,
        sensor: str = catalogue.AUTO,
        metadata: str = "",
        concat: str = "",
        parts: Sequence[Upload] = (),
        durable: bool = True,
    ) -> Upload:
        """Open an upload of the file `path` into the open data set `dataset`, or into one of its own.

        `length_bytes` None: it will be known later. `parts`: uploads that `assemble` will put together.

        Folder, room and the record of the data set are durable when this returns; where it raises, none is left.
        An unfinished upload of the same file into the same data set ends: its sender lost it, and begins anew.
        `durable` False spares syncs where all bytes come at once, so that nobody is told of it before its end.
        Raises `InvalidParameters`, `InvalidTransition`, `TooLarge`, `NoSpace`, `Unavailable`.
        """
        place = source_path(path)
        uuid = catalogue.new_uuid() if dataset is None else dataset.uuid
        self.places.require(uuid, [path])
        if dataset is not None:
            self._make_open(dataset)
        upload = self.uploads.create(
            dataset_uuid=uuid,
            user=user,
            path=path,
            length_bytes=length_bytes,
            metadata=metadata,
            concat=concat,
            parts=parts,
            closes=dataset is None,
            stored_bytes=self._stored_bytes(user),
            durable=durable,
        )
        try:
            if dataset is None:
                catalogue.open_dataset(
                    self.store, user=user, name=name or place.name, sensor=sensor, dataset_uuid=uuid
                )
        except BaseException:
            with self.uploads.held(upload.upload_id) as (held, _):
                self.uploads.end(held, remember=False)
            raise
        if dataset is not None:
            self._end_rivals(upload, {path})
        tell("upload opened", upload, size_bytes=length_bytes)
        return upload

    def open_part(self, *, user: str, length_bytes: int | None, metadata: str = "") -> Upload:
        """Open an upload that is a part of a file to come. Raises `TooLarge`, `TooMany`, `NoSpace`."""
        return self.uploads.create(
            dataset_uuid="",
            user=user,
            path="",
            length_bytes=length_bytes,
            metadata=metadata,
            concat=PARTIAL,
            closes=False,
            stored_bytes=self._stored_bytes(user),
        )

    def open_batch(self, dataset: Dataset, *, user: str, size_bytes: int | None) -> Batch:
        """Begin to take a tar of small files into the open data set; the caller closes it.

        `size_bytes`: how long the tar is, where that is known. Raises as `open_upload`.
        """
        self._make_open(dataset)
        upload = self.uploads.create(
            dataset_uuid=dataset.uuid,
            user=user,
            path="",
            length_bytes=None,
            reserved_bytes=size_bytes or 0,  # where that is not known, each step asks for its room
            metadata="",
            concat=BATCH,
            closes=False,
            stored_bytes=self._stored_bytes(user),
            durable=False,
        )
        largest, stored_bytes = self.uploads.limits.max_upload_bytes, self._stored_bytes(user)
        return Batch(
            self.uploads,
            upload,
            place=self._place_batch,
            require_room=lambda step: self.uploads.require_room(replace(upload, reserved_bytes=step), stored_bytes),
            largest_bytes=min(LARGEST_BYTES, largest or LARGEST_BYTES),
        )

    def require_takes(self, dataset: Dataset, path: str, *, size_bytes: int) -> None:
        """Raises what `take_small` would, as far as it can be known without the content."""
        self.places.require(dataset.uuid, [path])
        self._make_open(dataset)
        self.uploads.require_allowed(path, size_bytes)

    def take_small(self, files: Sequence[SmallFile]) -> list[Upload | ScientistCloudError]:
        """Make each a source file of its open data set, durably; what its upload would be, or why it cannot be one.

        Files of one data set and person share their syncs, unless one of them is in the way of the others.
        """
        done: dict[int, Upload | ScientistCloudError] = {}
        alike: dict[tuple[str, str], list[int]] = {}
        for at, file in enumerate(files):
            alike.setdefault((file.dataset_uuid, file.user), []).append(at)
        for places in alike.values():
            try:
                done |= zip(places, self._take_together([files[at] for at in places]), strict=True)
            except ScientistCloudError as failed:
                if len(places) == 1:
                    done[places[0]] = failed
                else:
                    done |= {at: self.take_small([files[at]])[0] for at in places}
        return [done[at] for at in range(len(files))]

    def _take_together(self, files: Sequence[SmallFile]) -> list[Upload]:
        now = self.store.clock.now()
        coming = [
            Upload(
                upload_id="",
                dataset_uuid=file.dataset_uuid,
                user=file.user,
                path=file.path,
                length_bytes=len(file.content),
                reserved_bytes=len(file.content),
                metadata=file.metadata,
                closes=False,
                created_at=now,
                expires_at=now + self.limits.expiry,
                inode=0,
            )
            for file in files
        ]
        size_bytes = sum(each.reserved_bytes for each in coming)
        with self.uploads.room(replace(coming[0], reserved_bytes=size_bytes), self._stored_bytes(files[0].user)):
            arrived = self.small.take(files[0].dataset_uuid, [(file.path, file.content) for file in files])
        self._end_rivals(coming[0], {file.path for file in files})
        return self.uploads.ended.add(
            [
                replace(each, offset_bytes=each.reserved_bytes, sha256=came.sha256)
                for each, came in zip(coming, arrived, strict=True)
            ]
        )

    def taken_bytes(self, user: str) -> int:
        return super().taken_bytes(user) + self.uploads.reserved_bytes(user)

    def known(self, upload_id: str) -> Upload:
        """The upload as it is now, one that ended lately too. Raises `NotFound`."""
        upload = self.uploads.get(upload_id)
        if upload is None:
            raise NotFound(f"there is no upload {upload_id}; begin a new one")
        return upload

    def grow(self, writing: Writing, needed_bytes: int, *, ahead_bytes: int = 0) -> None:
        """Reserve room for an upload of unknown length: for so many bytes in all, and for more if there is.

        Raises as `open_upload`.
        """
        stored_bytes = self._stored_bytes(writing.upload.user)
        if ahead_bytes:
            with suppress(TooLarge, NoSpace):
                self.uploads.grow(writing, needed_bytes + ahead_bytes, final=False, stored_bytes=stored_bytes)
                return
        self.uploads.grow(writing, needed_bytes, final=False, stored_bytes=stored_bytes)

    def declare(self, writing: Writing, length_bytes: int) -> None:
        """The length that was not known is this. Raises as `open_upload`, also where more has come."""
        stored_bytes = self._stored_bytes(writing.upload.user)
        self.uploads.grow(writing, length_bytes, final=True, stored_bytes=stored_bytes)

    def assemble(self, upload_id: str) -> Upload:
        """Put the upload's parts together and complete it; the parts end. Goes on where a crash stopped it.

        Raises `NotFound` where a part is gone (then the upload is given up), else as `complete`.
        """
        upload = self.known(upload_id)
        if not upload.complete:
            try:
                upload = put_together(self.uploads, upload, stopped=self._stopping.is_set)
            except MissingPart as gone:
                with self.uploads.held(upload_id) as (held, _):
                    self._give_up(held, str(gone), noted=held.closes)
                raise
        done = self.complete(upload_id)
        for part in upload.parts:
            with suppress(NotFound), self.uploads.held(part) as (held, _):
                self.uploads.end(held, remember=False)
        return done

    def complete(self, upload_id: str) -> Upload:
        """Make the complete upload a source file of its data set, and what follows from that; see above.

        Can be repeated, also at the same time. Raises `NotFound`; `InvalidTransition` where bytes are missing,
        where the data set was closed meanwhile (open it again, then repeat), or where another file is in the way
        (then the upload is given up).
        """
        try:
            with self.uploads.held(upload_id) as (upload, data):
                if not upload.complete:
                    raise InvalidTransition(
                        f"upload {upload_id} has {upload.offset_bytes} of {upload.length_bytes} bytes; "
                        "send the rest"
                    )
                if not upload.is_part:
                    self._finish(upload, data)
                return upload
        except NotFound:
            ended = self.uploads.get(upload_id)  # another request was faster
            if ended is None:
                raise
            return ended

    def cancel(self, upload_id: str, *, reason: str = "the upload was cancelled") -> None:
        """Remove the upload and what it brought; a data set of its own goes along. Raises `NotFound`."""
        with self.uploads.held(upload_id) as (upload, data):
            if data.exists():  # else it is a file of its data set already
                self._give_up(upload, reason, noted=upload.closes)

    def require_arrived(self, dataset_uuid: str) -> None:
        self.small.wait_for_others()
        missing = 0
        for upload in list(self.uploads.unfinished()):
            if upload.dataset_uuid != dataset_uuid:
                continue
            if upload.complete:
                self.complete(upload.upload_id)
            else:
                missing += 1
        if missing:
            raise InvalidTransition(
                f"{missing} uploads of data set {dataset_uuid} are still on their way; finish or cancel them"
            )

    # -- steps -----------------------------------------------------------------------------------

    def _finish(self, upload: Upload, data: Path) -> None:
        dataset = self._dataset(upload)
        assert upload.length_bytes is not None
        if dataset is None:
            self.uploads.end(upload, remember=False)
            raise NotFound(f"data set {upload.dataset_uuid} was deleted while its upload ran; begin a new one")
        placed = data.exists()
        if placed:
            catalogue.require_open(dataset)
            try:
                self.places.put(data, self.places.of(upload.dataset_uuid, upload.path))
            except OSError as in_the_way:
                if not isinstance(in_the_way, FileExistsError | NotADirectoryError | IsADirectoryError):
                    raise
                message = (
                    f"{upload.path!r} cannot be stored: another file of the data set has that name as a folder"
                )
                self._give_up(upload, message, noted=upload.closes)
                raise InvalidTransition(f"{message}; rename one of them") from in_the_way
        if placed or self.places.holds(upload):
            self.store.datasets.put_files(
                [
                    DatasetFile(
                        dataset_uuid=upload.dataset_uuid,
                        path=upload.path,
                        size_bytes=upload.length_bytes,
                        sha256=upload.sha256,
                    )
                ]
            )
        if placed:
            tell("upload complete", upload, size_bytes=upload.length_bytes)
        if upload.closes:
            dataset = catalogue.close(
                self.store, upload.dataset_uuid, only_revision=0, archive=self._archive(upload.dataset_uuid)
            )
            self._create_conversion_job(dataset)
        if upload.sha256 is not None:
            self.uploads.end(upload, remember=True)

    def _make_open(self, dataset: Dataset) -> None:
        """Raises `InvalidTransition` for a closed data set; one whose upload failed is as open as any."""
        catalogue.require_open(dataset)
        if dataset.status is DatasetStatus.UPLOAD_ERROR:
            catalogue.reopen(self.store, dataset.uuid)

    def _place_batch(self, dataset_uuid: str, folder: Path, step: Sequence[Arrived]) -> None:
        """Put the files of a step in their places, durably, and record them. Can be repeated."""
        dataset = self.store.datasets.get(dataset_uuid)
        if dataset is None or dataset.deleted_at is not None:
            raise NotFound(f"data set {dataset_uuid} was deleted while files came; begin a new one")
        catalogue.require_open(dataset)
        require_plain(step)
        self.places.require(dataset_uuid, (each.path for each in step))
        self.places.put_all(folder, dataset_uuid, ((str(each.number), each.path) for each in step))
        self.store.datasets.put_files(
            [
                DatasetFile(
                    dataset_uuid=dataset_uuid, path=each.path, size_bytes=each.size_bytes, sha256=each.sha256
                )
                for each in step
            ]
        )
        tell("small files are in their places", dataset_uuid=dataset_uuid, files=len(step))

    def _end_rivals(self, upload: Upload, paths: Collection[str]) -> None:
        for upload_id in self.uploads.rivals(upload, paths):
            with suppress(NotFound), self.uploads.held(upload_id) as (rival, data):
                if data.exists() and not rival.complete and rival.created_at <= upload.created_at:
                    self.uploads.end(rival, remember=False)

    def _give_up(self, upload: Upload, message: str, *, noted: bool) -> None:
        """End the upload; with `noted` its data set says why. To be called while it is held."""
        tell("upload given up", upload, reason=message)
        if noted and self._dataset(upload) is not None:
            catalogue.fail_upload(self.store, upload.dataset_uuid, message)
        self.uploads.end(upload, remember=False)

    def _dataset(self, upload: Upload) -> Dataset | None:
        dataset = self.store.datasets.get(upload.dataset_uuid)
        return dataset if dataset is not None and dataset.deleted_at is None else None

    def _stored_bytes(self, user: str) -> Callable[[], int]:
        return lambda: self.store.datasets.stored_bytes(user=user)
