"""From complete uploads to source files of a data set, and from there to its conversion job.

Complete upload → renamed into ``datasets/UUID/source/`` → record of the file → data set closed, its status
`conversion queued` and the job that it waits for (`wanted`) on record → job created → the upload's folder removed.
Each step can be repeated, and the folder goes last: what a crash interrupts is finished by `recover` at the next
start, by `tend` later, or by the next request for the upload.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from scientistcloud.datasets import catalogue
from scientistcloud.errors import NotFound, ScientistCloudError, Unavailable
from scientistcloud.records import Dataset
from scientistcloud.uploads.batch import finish as finish_batch
from scientistcloud.uploads.receiving import UploadReceiver
from scientistcloud.uploads.record import Upload
from scientistcloud.uploads.telling import tell

BLOCK_BYTES = 4 * 2**20
# An opening that takes longer than this to write its data set's record has died.
_ORPHANED = timedelta(hours=1)


class UploadProcessor(UploadReceiver):
    """Intake on one store and data folder; `UploadReceiver` has its arguments."""

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

    def recover(self) -> int:
        """Finish what a crash interrupted: every complete upload, then the digests. How many were finished.

        One that cannot be finished now does not keep the others waiting; it is tried again by the next call.
        """
        finished = self._recover_small()
        unfinished = []
        for upload in list(self.uploads.unfinished()):
            if upload.is_batch:
                finished += finish_batch(self.uploads, upload.upload_id, place=self._place_batch)
            elif not upload.is_part:
                unfinished.append(upload)
        complete = [upload for upload in unfinished if upload.complete]
        for upload in unfinished:
            if upload.parts and not upload.complete:
                try:
                    self.assemble(upload.upload_id)
                    finished += 1
                except ScientistCloudError as failed:
                    tell("upload not put together", upload, level=logging.WARNING, reason=failed)
        for upload in complete:
            try:
                self.complete(upload.upload_id)
                finished += 1
            except ScientistCloudError as failed:
                tell("upload complete and not taken in", upload, level=logging.WARNING, reason=failed)
        for upload in complete:
            self.digest(upload.upload_id)
        return finished

    def _recover_small(self) -> int:
        try:
            return self.small.recover()
        except ScientistCloudError as failed:
            tell("small files of a process that died stay for now", reason=failed)
            return 0

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
                self._expire(upload)
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
            if (known := self.uploads.get(upload_id)) is not None:
                tell("SHA-256 not computed", known, level=logging.WARNING, reason=failed)
        finally:
            self._digesting.discard(upload_id)

    def _expire(self, expired: Upload) -> None:
        try:
            with self.uploads.held(expired.upload_id, seconds=0) as (upload, data):
                if upload.expires_at >= self.store.clock.now() and not self._is_orphaned(upload):
                    return  # bytes came meanwhile
                if not data.exists():  # `recover` did what can still be done
                    self.uploads.end(upload, remember=True)
                    return
                days = self.uploads.limits.expiry / timedelta(days=1)
                message = f"the upload of {upload.path!r} stopped and expired after {days:g} days; send it again"
                self._give_up(upload, message, noted=True)
        except ScientistCloudError as failed:
            tell("upload expired and stays for now", expired, reason=failed)

    def _is_orphaned(self, upload: Upload) -> bool:
        return bool(upload.path) and self._dataset(upload) is None

    def _sha256(self, path: Path) -> str:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                if self._stopping.is_set():
                    raise Unavailable("the portal stops; its next start will compute it")
                digest.update(block)
        return digest.hexdigest()
