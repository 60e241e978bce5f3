"""Data sets filled, closed, opened again, converted: what their records promise, and the job that keeps it.

Closing is one compare-and-set on the record; the job that it promises (`wanted`) is created after it, by a key, and
can be created again by whoever finds it missing.
"""

from __future__ import annotations

from contextlib import suppress

from scientistcloud.datasets import catalogue
from scientistcloud.datasets.catalogue import Archive
from scientistcloud.datasets.lifecycle import CONVERSION, EXTRACTION
from scientistcloud.datasets.settling import settle
from scientistcloud.errors import InvalidTransition, NotFound
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.layout import DataFolder, source_path
from scientistcloud.ports import Store
from scientistcloud.records import Dataset, JobStatus, Json
from scientistcloud.uploads.archives import folder_for, is_archive
from scientistcloud.uploads.folder import Limits
from scientistcloud.uploads.placing import Places


class DatasetCloser:
    """Data sets of one store and data folder, from their first file to their job."""

    def __init__(self, store: Store, *, folder: DataFolder, limits: Limits, queue: JobQueueManager) -> None:
        self.store = store
        self.folder = folder
        self.limits = limits
        self.places = Places(folder)
        self._queue = queue

    def require_arrived(self, dataset_uuid: str) -> None:
        """Finish what can be finished for the data set. Raises `InvalidTransition` where files are on their way."""

    def close(self, dataset_uuid: str, *, convert: bool = True, sensor: str | None = None) -> Dataset:
        """All files have arrived: close the data set and queue its conversion, once, however often repeated.

        Raises `NotFound`; `InvalidTransition` where it has no file, or uploads are still on their way.
        """
        if self._known(dataset_uuid).closed_at is None:
            self._require_files(dataset_uuid)
        dataset = catalogue.close(
            self.store,
            dataset_uuid,
            convert=convert,
            sensor=sensor,
            archive=self._archive(dataset_uuid),
            at=self._unpacked_at(dataset_uuid),
        )
        self._create_conversion_job(dataset)
        return dataset

    def reopen(self, dataset_uuid: str) -> Dataset:
        """Open the data set for more files. Raises `NotFound`, `InvalidTransition` while a job works on it.

        What waits to be converted or unpacked is called off: the next close asks for all of it at once.
        """
        catalogue.reopen(self.store, dataset_uuid)
        for job in self._queue.list_jobs(dataset_uuid=dataset_uuid, status=JobStatus.PENDING, limit=1000):
            if job.job_type in (CONVERSION, EXTRACTION):
                with suppress(InvalidTransition, NotFound):  # it ended meanwhile
                    self._queue.cancel_job(job.job_id)
        settle(self.store, dataset_uuid)
        return self._known(dataset_uuid)

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
            at=self._unpacked_at(dataset_uuid),
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

    def room_left(self, user: str) -> int | None:
        """What may still come in under `user`'s quota; None where there is none."""
        quota = self.limits.quota_bytes
        return None if quota is None else max(0, quota - self.taken_bytes(user))

    def taken_bytes(self, user: str) -> int:
        """What of a quota is taken: by data sets, and by what was promised to come."""
        return self.store.datasets.stored_bytes(user=user)

    def _require_files(self, dataset_uuid: str) -> None:
        self.require_arrived(dataset_uuid)
        if not self.store.datasets.files(dataset_uuid, limit=1):
            raise InvalidTransition(f"data set {dataset_uuid} has no file yet; upload one, then close it")

    def _archive(self, dataset_uuid: str) -> Archive | None:
        """The data set's one file, if that is an archive; content and name decide."""
        files = self.store.datasets.files(dataset_uuid, limit=2)
        if len(files) != 1 or not self._is_archive(dataset_uuid, files[0].path):
            return None
        return Archive(files[0].path, limit_bytes=self.room_left(self._known(dataset_uuid).user))

    def _unpacked_at(self, dataset_uuid: str) -> str | None:
        """The folder of the data set's files, where they are one archive and what was unpacked of it."""
        files = self.store.datasets.files(dataset_uuid, limit=2)
        if len(files) < 2 or not self._is_archive(dataset_uuid, files[0].path):
            return None
        at = folder_for(files.pop(0).path)  # by its path an archive comes before what is in it
        while files:
            if not all(file.path.startswith(f"{at}/") for file in files):
                return None
            files = self.store.datasets.files(dataset_uuid, after=files[-1].path)
        return at

    def _is_archive(self, dataset_uuid: str, path: str) -> bool:
        """Whether the source file at `path` is one that is unpacked: what stays where it lies is not."""
        found = self.folder.dataset(dataset_uuid).source / source_path(path)
        return self._known(dataset_uuid).place is None and found.is_file() and is_archive(path, found)

    def _known(self, dataset_uuid: str) -> Dataset:
        dataset = self.store.datasets.get(dataset_uuid)
        if dataset is None or dataset.deleted_at is not None:
            raise NotFound(f"there is no data set {dataset_uuid}; your list shows those that there are")
        return dataset
