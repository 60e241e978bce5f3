"""Data sets over HTTP: listed, opened, filled by uploads, closed, described, converted again."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from scientistcloud.access.rules import Action, may
from scientistcloud.datasets import catalogue, retiring
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.portal.api.public import PublicRow, public_row
from scientistcloud.portal.dependencies import (
    Caller,
    ChangedDataset,
    DeletedDataset,
    FollowedDataset,
    Reader,
    SeenDataset,
    TheStore,
)
from scientistcloud.records import Dataset, DatasetStatus, json_of
from scientistcloud.uploads.processor import UploadProcessor

router = APIRouter(prefix="/api/datasets", tags=["datasets"])


def _processor(request: Request) -> UploadProcessor:
    return cast("UploadProcessor", request.app.state.processor)


TheProcessor = Annotated[UploadProcessor, Depends(_processor)]


# -- what is said and answered -------------------------------------------------------------------


class DatasetRow(BaseModel):
    """One record of `visstoredatas`, without what only the processing needs."""

    uuid: str
    user: str
    name: str
    sensor: str
    status: DatasetStatus
    #: Why the status is an error's; null otherwise.
    error: str | None
    size_bytes: int
    #: The converted forms; each is what `scientistcloud convert --json` prints.
    forms: list[dict[str, Any]]
    tags: list[str]
    description: str
    public: bool
    created_at: datetime
    updated_at: datetime
    #: When its files were complete; null while it is open for more.
    closed_at: datetime | None
    #: How often it was closed.
    revision: int
    #: Where its files lie, if they were registered there; null: in the data folder.
    place: str | None
    #: What one should know of its files, such as that one changed since; null while there is nothing.
    notice: str | None
    #: When it was deleted; null while it is not. It can be restored for some days.
    deleted_at: datetime | None


class DatasetList(BaseModel):
    success: bool = True
    #: How many the caller has in all, on this page or another, whatever `text` and `status` say.
    total: int
    datasets: list[DatasetRow]


class FileRow(BaseModel):
    """One source file."""

    path: str
    size_bytes: int
    #: Hex; null until it is known.
    sha256: str | None


class FileList(BaseModel):
    files: list[FileRow]


class JobsOfDataset(BaseModel):
    jobs: list[dict[str, Any]]


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewDataset(_Said):
    name: str
    sensor: str = catalogue.AUTO
    description: str = ""
    tags: list[str] = []


class Description(_Said):
    """What is left out stays as it is."""

    name: str | None = None
    description: str | None = None
    tags: list[str] | None = None
    public: bool | None = None


class Closing(_Said):
    #: False: the data set is kept as it is, and `done`.
    convert: bool = True
    #: Another sensor than the one it was opened with.
    sensor: str | None = None


class Conversion(_Said):
    #: Drawn by the client: the same one again makes no second job.
    request: str | None = None
    sensor: str | None = None
    #: What is overruled; each as the option of `scientistcloud convert` of that name.
    format: Literal["ome-zarr", "idx"] | None = None
    array: str | None = None
    axes: list[str] | None = None
    spacing: dict[str, float] | None = None
    scan: str | None = None
    bands: str | None = None
    #: A number, or "NaN".
    fill: int | float | Literal["NaN"] | None = None
    reduce: Literal["mean", "maximum", "mode", "or", "nearest"] | None = None
    levels: Annotated[int, Field(ge=1)] | None = None
    chunk: list[Annotated[int, Field(ge=1)]] | None = None
    shard: list[Annotated[int, Field(ge=1)]] | None = None
    codec: Literal["auto", "zstd", "lz4"] | None = None

    def options(self) -> dict[str, Any]:
        """What is overruled, as parameters of the job."""
        return self.model_dump(exclude={"request", "sensor"}, exclude_none=True)


class Converting(BaseModel):
    job_id: str


def row_of(dataset: Dataset) -> DatasetRow:
    return DatasetRow.model_validate({name: _plain(getattr(dataset, name)) for name in DatasetRow.model_fields})


def _plain(value: object) -> object:
    match value:
        case tuple():
            return [_plain(each) for each in value]
        case Mapping():
            return dict(value)
        case _:
            return value


# -- routes --------------------------------------------------------------------------------------


@router.get("")
def list_datasets(
    caller: Caller,
    store: TheStore,
    status: Annotated[list[DatasetStatus] | None, Query(description="Only with one of these")] = None,
    text: Annotated[str | None, Query(description="Part of name, tag, sensor or description")] = None,
    deleted: Annotated[bool, Query(description="Those that were deleted and can be restored")] = False,
    after: Annotated[str | None, Query(description="The last `uuid` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> DatasetList:
    """The caller's data sets, newest first."""
    found = store.datasets.find(
        user=caller.email, statuses=status, text=text, deleted=deleted, after=after, limit=limit
    )
    total = sum(store.datasets.counts(user=caller.email).values())
    return DatasetList(total=total, datasets=[row_of(dataset) for dataset in found])


@router.post("", status_code=201)
def open_dataset(caller: Caller, store: TheStore, new: NewDataset) -> DatasetRow:
    """Open a data set, to be filled by uploads that name it as `dataset`, then closed."""
    return row_of(
        catalogue.open_dataset(
            store, user=caller.email, name=new.name, sensor=new.sensor, description=new.description, tags=new.tags
        )
    )


@router.get("/{uuid}")
def get_dataset(dataset: SeenDataset, reader: Reader) -> DatasetRow | PublicRow:
    """The record of the data set; of a public one, for others than its owner, what everybody may know."""
    return row_of(dataset) if may(reader, dataset, Action.FOLLOW) else public_row(dataset)


@router.patch("/{uuid}")
def describe_dataset(dataset: ChangedDataset, store: TheStore, said: Description) -> DatasetRow:
    """Write name, description, tags or `public`; nothing of the processing is touched."""
    given = said.model_dump(exclude_none=True)
    return row_of(catalogue.describe(store, dataset.uuid, **given) if given else dataset)


@router.get("/{uuid}/files")
def list_files(
    dataset: SeenDataset,
    store: TheStore,
    after: Annotated[str | None, Query(description="The last `path` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> FileList:
    """The source files, by path; their bytes are below `/data/{uuid}/source/`."""
    files = store.datasets.files(dataset.uuid, after=after, limit=limit)
    return FileList(
        files=[FileRow(path=file.path, size_bytes=file.size_bytes, sha256=file.sha256) for file in files]
    )


@router.delete("/{uuid}/files/{path:path}", status_code=204)
def remove_file(dataset: ChangedDataset, processor: TheProcessor, path: str) -> None:
    """Remove a source file of an open data set; nothing happens where there is none. 409 where it is closed."""
    processor.remove_file(dataset.uuid, path)


@router.get("/{uuid}/jobs")
def list_jobs(
    dataset: FollowedDataset,
    store: TheStore,
    after: Annotated[str | None, Query(description="The last `job_id` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> JobsOfDataset:
    """The jobs of the data set, in the order of creation."""
    jobs = JobQueueManager(store).list_jobs(dataset_uuid=dataset.uuid, after=after, limit=limit)
    return JobsOfDataset(jobs=[json_of(job) for job in jobs])


@router.post("/{uuid}/close")
def close_dataset(dataset: ChangedDataset, processor: TheProcessor, said: Closing | None = None) -> DatasetRow:
    """All files have arrived: the conversion is queued, once, however often this is repeated.

    409 while uploads are on their way, and where there is no file.
    """
    said = said or Closing()
    return row_of(processor.close(dataset.uuid, convert=said.convert, sensor=said.sensor))


@router.post("/{uuid}/open")
def reopen_dataset(dataset: ChangedDataset, processor: TheProcessor) -> DatasetRow:
    """Open a closed data set for more files. 409 while a job works on it."""
    return row_of(processor.reopen(dataset.uuid))


@router.post("/{uuid}/convert", status_code=202)
def convert_again(dataset: ChangedDataset, processor: TheProcessor, said: Conversion | None = None) -> Converting:
    """Queue another conversion, with other options where some are given. 409 while the data set is open."""
    said = said or Conversion()
    request = said.request or str(uuids.uuid4())
    job_id = processor.convert_again(dataset.uuid, request=request, sensor=said.sensor, options=said.options())
    return Converting(job_id=job_id)


@router.delete("/{uuid}")
def delete_dataset(dataset: ChangedDataset, store: TheStore) -> DatasetRow:
    """Delete the data set; its jobs are cancelled. For some days it can be restored, then it is removed."""
    return row_of(retiring.delete(store, dataset.uuid))


@router.post("/{uuid}/restore")
def restore_dataset(dataset: DeletedDataset, store: TheStore) -> DatasetRow:
    """Have back what was deleted. 409 where its removal has begun."""
    return row_of(retiring.restore(store, dataset.uuid))
