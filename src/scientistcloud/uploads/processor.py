"""From complete uploads to source files of a data set, and from there to its conversion job.

Complete upload → renamed into ``datasets/UUID/source/`` → record of the file → data set closed, its status
`conversion queued` and the job that it waits for (`wanted`) on record → job created → the upload's folder removed.
Each step can be repeated, and the folder goes last: what a crash interrupts is finished by `recover` at the next
start, by `tend` later, or by the next request for the upload.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event

from scientistcloud.datasets import catalogue
from scientistcloud.datasets.catalogue import Archive
from scientistcloud.datasets.settling import settle
from scientistcloud.errors import (
    InvalidTransition,
    NoSpace,
    NotFound,
    ScientistCloudError,
    TooLarge,
    Unavailable,
)
from scientistcloud.jobs.parameters import PARAMETERS_LIMIT_BYTES
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.layout import DataFolder, source_path
from scientistcloud.ports import Store
from scientistcloud.records import Dataset, DatasetFile, DatasetStatus, Json
from scientistcloud.uploads.archives import is_archive
from scientistcloud.uploads.batch import LARGEST_BYTES, Arrived, Batch, require_plain
from scientistcloud.uploads.batch import finish as finish_batch
from scientistcloud.uploads.folder import Limits, UploadsFolder
from scientistcloud.uploads.parts import MissingPart, put_together
from scientistcloud.uploads.placing import Places
from scientistcloud.uploads.record import BATCH, PARTIAL, Upload
from scientistcloud.uploads.session import Writing

_LOG = logging.getLogger(__name__)

BLOCK_BYTES = 4 * 2**20
# An opening that takes longer than this to write its data set's record has died.
_ORPHANED = timedelta(hours=1)


class UploadProcessor:
    """Intake on one store and data folder. Threads and processes may share both.

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
        self.store = store
        self.folder = DataFolder(Path(data_dir).absolute())
        self.uploads = UploadsFolder(self.folder, clock=store.clock, limits=limits or Limits())
        self._queue = JobQueueManager(
            store, max_pending_per_dataset=max_pending_per_dataset, max_parameters_bytes=max_parameters_bytes
        )
        self._digesting: set[str] = set()
        self.places = Places(self.folder)
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
            self._end_rivals(upload)
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

    def ingest(
        self, paths: Sequence[Path], *, user: str, name: str, sensor: str = catalogue.AUTO, convert: bool = True
    ) -> Dataset:
        """Copy files of this machine into a data set, by the same steps as an upload, and close it."""
        dataset = catalogue.open_dataset(self.store, user=user, name=name, sensor=sensor)
        for path in paths:
            upload = self.open_upload(user=user, path=path.name, length_bytes=path.stat().st_size, dataset=dataset)
            writing = self.uploads.write(upload.upload_id)
            try:
                with path.open("rb") as file:
                    while block := file.read(BLOCK_BYTES):
                        writing.write([block])
                writing.checkpoint()
            finally:
                writing.close()
            self.complete(upload.upload_id)
        return self.close(dataset.uuid, convert=convert)

    # -- data sets -------------------------------------------------------------------------------

    def close(self, dataset_uuid: str, *, convert: bool = True, sensor: str | None = None) -> Dataset:
        """All files have arrived: close the data set and queue its conversion, once, however often repeated.

        Raises `NotFound`; `InvalidTransition` where it has no file, or uploads are still on their way.
        """
        if self._known(dataset_uuid).closed_at is None:
            self._require_files(dataset_uuid)
        dataset = catalogue.close(
            self.store, dataset_uuid, convert=convert, sensor=sensor, archive=self._archive(dataset_uuid)
        )
        self._create_conversion_job(dataset)
        return dataset

    def reopen(self, dataset_uuid: str) -> Dataset:
        """Open the data set for more files. Raises `NotFound`, `InvalidTransition`."""
        return catalogue.reopen(self.store, dataset_uuid)

    def remove_file(self, dataset_uuid: str, path: str) -> None:
        """Remove a source file of an open data set. Raises `NotFound`, `InvalidTransition` where it is closed."""
        catalogue.require_open(self._known(dataset_uuid))
        # The file first: a record without a file is seen and can be removed again, the other way round not.
        self.places.remove(dataset_uuid, path)
        self.store.datasets.remove_file(dataset_uuid, path)

    def convert_again(
        self, dataset_uuid: str, *, request: str, sensor: str | None = None, options: Json | None = None
    ) -> str:
        """Queue another conversion of the closed data set; the `job_id`, the same for the same `request`.

        `options`: what is overruled, see `datasets.wanted.CONVERSION_OPTIONS`.

        Raises `NotFound`, `InvalidTransition`, `InvalidParameters`, `QueueFull`.
        """
        dataset = catalogue.want_conversion(
            self.store,
            dataset_uuid,
            request=request,
            sensor=sensor,
            options=options,
            archive=self._archive(dataset_uuid),
        )
        job_id = self._create_conversion_job(dataset)
        assert job_id is not None
        settle(self.store, dataset_uuid)  # a repeated request may find its job done
        return job_id

    def create_wanted(self, dataset: Dataset) -> str | None:
        """Queue what the data set waits for, once however often repeated; care does it where this dies first."""
        return self._create_conversion_job(dataset)

    def _create_conversion_job(self, dataset: Dataset) -> str | None:
        """Queue what the data set's status promises, by its uuid alone; None where it promises nothing."""
        if dataset.wanted is None:
            return None
        return self._queue.create_job(
            dataset_uuid=dataset.uuid,
            job_type=dataset.wanted.job_type,
            parameters=dataset.wanted.parameters,  # input_path, output_path, sensor_type
            idempotency_key=dataset.wanted.idempotency_key,
        )

    # -- what happens by itself ------------------------------------------------------------------

    def recover(self) -> int:
        """Finish what a crash interrupted: every complete upload, then the digests. How many were finished.

        One that cannot be finished now does not keep the others waiting; it is tried again by the next call.
        """
        finished = 0
        unfinished = []
        for upload in list(self.uploads.unfinished()):
            if upload.is_batch:
                finished += finish_batch(self.uploads, upload.upload_id, place=self._place_batch)
            elif not upload.is_part:
                unfinished.append(upload)
        complete = [upload.upload_id for upload in unfinished if upload.complete]
        for upload in unfinished:
            if upload.parts and not upload.complete:
                try:
                    self.assemble(upload.upload_id)
                    finished += 1
                except ScientistCloudError as failed:
                    _LOG.warning("upload %s could not be put together: %s", upload.upload_id, failed)
        for upload_id in complete:
            try:
                self.complete(upload_id)
                finished += 1
            except ScientistCloudError as failed:
                _LOG.warning("upload %s is complete and could not be taken in: %s", upload_id, failed)
        for upload_id in complete:
            self.digest(upload_id)
        return finished

    def tend(self) -> None:
        """`recover`, and end what has expired. To be called now and then, by any number of processes."""
        self.recover()
        now = self.store.clock.now()
        unfinished = list(self.uploads.unfinished())
        used = {part for upload in unfinished for part in upload.parts}
        for upload in unfinished:
            if upload.upload_id in used:
                continue
            if upload.expires_at < now or (now - upload.created_at > _ORPHANED and self._is_orphaned(upload)):
                self._expire(upload.upload_id)
        self.uploads.sweep()

    def stop(self) -> None:
        """End what goes on by itself soon; the next start finishes it."""
        self._stopping.set()

    def digest(self, upload_id: str) -> None:
        """Compute the SHA-256 that a restart lost, from the file in its place; then the upload's folder goes."""
        if upload_id in self._digesting:
            return
        self._digesting.add(upload_id)
        try:
            with self.uploads.held(upload_id) as (upload, data):
                pending = upload.complete and upload.sha256 is None and not data.exists()
            if pending:
                sha256 = self._sha256(self.places.of(upload.dataset_uuid, upload.path))
                with self.uploads.held(upload_id) as (upload, _):
                    self.uploads.note(upload, sha256=sha256)
                self.complete(upload_id)
        except NotFound:
            return  # another was faster
        except (OSError, ScientistCloudError) as failed:
            _LOG.warning("the SHA-256 of upload %s could not be computed: %s", upload_id, failed)
        finally:
            self._digesting.discard(upload_id)

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

    def _place_batch(self, upload: Upload, folder: Path, step: Sequence[Arrived]) -> None:
        """Put the files of a step in their places, durably, and record them. Can be repeated."""
        dataset = self._dataset(upload)
        if dataset is None:
            raise NotFound(f"data set {upload.dataset_uuid} was deleted while files came; begin a new one")
        catalogue.require_open(dataset)
        require_plain(step)
        self.places.require(upload.dataset_uuid, (each.path for each in step))
        self.places.put_all(folder, upload.dataset_uuid, ((str(each.number), each.path) for each in step))
        self.store.datasets.put_files(
            [
                DatasetFile(
                    dataset_uuid=upload.dataset_uuid, path=each.path, size_bytes=each.size_bytes, sha256=each.sha256
                )
                for each in step
            ]
        )

    def _end_rivals(self, upload: Upload) -> None:
        for upload_id in self.uploads.rivals(upload):
            with suppress(NotFound), self.uploads.held(upload_id) as (rival, data):
                if data.exists() and not rival.complete and rival.created_at <= upload.created_at:
                    self.uploads.end(rival, remember=False)

    def _require_files(self, dataset_uuid: str) -> None:
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
        if not self.store.datasets.files(dataset_uuid, limit=1):
            raise InvalidTransition(f"data set {dataset_uuid} has no file yet; upload one, then close it")

    def _archive(self, dataset_uuid: str) -> Archive | None:
        """The data set's one file, if that is an archive; content and name decide."""
        files = self.store.datasets.files(dataset_uuid, limit=2)
        dataset = self.store.datasets.get(dataset_uuid)
        if len(files) != 1 or dataset is None or dataset.place is not None:
            return None
        path = self.folder.dataset(dataset_uuid).source / source_path(files[0].path)
        if not path.is_file() or not is_archive(files[0].path, path):
            return None
        return Archive(files[0].path, limit_bytes=self.room_left(dataset.user))

    def room_left(self, user: str) -> int | None:
        """What may still come in under `user`'s quota; None where there is none."""
        quota = self.uploads.limits.quota_bytes
        return None if quota is None else max(0, quota - self.store.datasets.stored_bytes(user=user))

    def _expire(self, upload_id: str) -> None:
        try:
            with self.uploads.held(upload_id, seconds=0) as (upload, data):
                if upload.expires_at >= self.store.clock.now() and not self._is_orphaned(upload):
                    return  # bytes came meanwhile
                if not data.exists():  # `recover` did what can still be done
                    self.uploads.end(upload, remember=True)
                    return
                days = self.uploads.limits.expiry / timedelta(days=1)
                message = f"the upload of {upload.path!r} stopped and expired after {days:g} days; send it again"
                self._give_up(upload, message, noted=True)
        except ScientistCloudError as failed:
            _LOG.info("upload %s expired and stays for now: %s", upload_id, failed)

    def _give_up(self, upload: Upload, message: str, *, noted: bool) -> None:
        """End the upload; with `noted` its data set says why. To be called while it is held."""
        if noted and self._dataset(upload) is not None:
            catalogue.fail_upload(self.store, upload.dataset_uuid, message)
        self.uploads.end(upload, remember=False)

    def _known(self, dataset_uuid: str) -> Dataset:
        dataset = self.store.datasets.get(dataset_uuid)
        if dataset is None or dataset.deleted_at is not None:
            raise NotFound(f"there is no data set {dataset_uuid}; your list shows those that there are")
        return dataset

    def _dataset(self, upload: Upload) -> Dataset | None:
        dataset = self.store.datasets.get(upload.dataset_uuid)
        return dataset if dataset is not None and dataset.deleted_at is None else None

    def _is_orphaned(self, upload: Upload) -> bool:
        return bool(upload.path) and self._dataset(upload) is None

    def _stored_bytes(self, user: str) -> Callable[[], int]:
        return lambda: self.store.datasets.stored_bytes(user=user)

    def _sha256(self, path: Path) -> str:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                if self._stopping.is_set():
                    raise Unavailable("the portal stops; its next start will compute it")
                digest.update(block)
        return digest.hexdigest()
