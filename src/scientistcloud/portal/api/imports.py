"""Imports over HTTP: the server fetches."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from scientistcloud.portal.api.datasets import DatasetRow, TheProcessor, row_of
from scientistcloud.portal.dependencies import Caller, TheSettings
from scientistcloud.uploads import importing

router = APIRouter(prefix="/api/imports", tags=["imports"])


class NewImport(BaseModel):
    """What is to be fetched."""

    model_config = ConfigDict(extra="forbid")

    #: `https://…`, `s3://BUCKET/KEY`, `sftp://HOST/PATH`, `webdavs://HOST/PATH`, `gdrive:PATH`. A secret, for
    #: addresses can hold one.
    url: SecretStr
    #: Of the data set; default: the last part of the address.
    name: str | None = None
    sensor: str = "auto"
    convert: bool = True
    #: What opens the source: `login`, `password`, `access_key` …; kept sealed, and no longer than the import.
    credential: Annotated[dict[str, SecretStr], Field(max_length=10)] = {}


@router.post("", status_code=HTTPStatus.ACCEPTED)
def begin_import(caller: Caller, settings: TheSettings, processor: TheProcessor, new: NewImport) -> DatasetRow:
    """Begin an import: a data set that waits for its files, and the job that fetches them."""
    return row_of(
        importing.begin(
            processor,
            user=caller.email,
            url=new.url.get_secret_value(),
            fields={name: value.get_secret_value() for name, value in new.credential.items()},
            name=new.name,
            sensor=new.sensor,
            convert=new.convert,
            private_addresses=settings.import_private_addresses,
        )
    )
