"""The catalogue of what is public, for programs: no log-in, and no word of whose it is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from scientistcloud.portal.dependencies import Reader, TheStore
from scientistcloud.records import Dataset, DatasetStatus

router = APIRouter(tags=["public"])


class PublicRow(BaseModel):
    """What everybody may know of a public data set: no owner, no place on the server, no job."""

    uuid: str
    name: str
    description: str
    tags: list[str]
    sensor: str
    status: DatasetStatus
    size_bytes: int
    #: The converted forms; each is what `scientistcloud convert --json` prints, with the `token` of its addresses.
    forms: list[dict[str, Any]]
    created_at: datetime
    updated_at: datetime


class PublicList(BaseModel):
    success: bool = True
    #: How many there are in all, on this page or another, whatever `text` and `sensor` say.
    total: int
    #: How many there are of each sensor.
    sensors: Mapping[str, int]
    datasets: list[PublicRow]


def public_row(dataset: Dataset) -> PublicRow:
    """`dataset` as everybody may know it."""
    return PublicRow(
        uuid=dataset.uuid,
        name=dataset.name,
        description=dataset.description,
        tags=list(dataset.tags),
        sensor=dataset.sensor,
        status=dataset.status,
        size_bytes=dataset.size_bytes,
        forms=[{key: value for key, value in form.items() if key != "job_id"} for form in dataset.forms],
        created_at=dataset.created_at,
        updated_at=dataset.updated_at,
    )


@router.get("/api/public")
def list_public(
    _reader: Reader,
    store: TheStore,
    text: Annotated[
        str | None, Query(max_length=200, description="Part of name, tag, sensor or description")
    ] = None,
    sensor: Annotated[str | None, Query(max_length=64, description="Only of this sensor")] = None,
    after: Annotated[str | None, Query(description="The last `uuid` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> PublicList:
    """The public data sets that have a form or files, newest first. Needs no log-in."""
    sensors = store.datasets.public_sensors()
    found = store.datasets.find_public(text=text, sensor=sensor, after=after, limit=limit)
    return PublicList(total=sum(sensors.values()), sensors=sensors, datasets=[public_row(each) for each in found])
