"""Documents as records and back: the one place that knows how a value lies in a field.

A field that is None is absent, so that unique sparse indexes leave it out. Times are BSON dates, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from scientistcloud.database.mongo.collection import Document
from scientistcloud.errors import IncompatibleInstallation
from scientistcloud.records import (
    Attempt,
    ConversionTarget,
    Dataset,
    DatasetStatus,
    Job,
    JobError,
    JobStatus,
    Progress,
    WaitsFor,
    Wanted,
)

JOB_FIELDS = tuple(field.name for field in fields(Job))
TARGET_FIELDS = tuple(field.name for field in fields(ConversionTarget))
DATASET_FIELDS = tuple(field.name for field in fields(Dataset))

SEARCHED = ("name", "sensor", "description", "tags", "keywords")

PLACE = "n"
"""The order of creation over all jobs, or all data sets; a document without it is another client's."""


# -- from the database ---------------------------------------------------------------------------


def job_of(document: Document) -> Job:
    """A document of `jobs` as a record."""
    given = {name: document[name] for name in JOB_FIELDS if name in document}
    waits_for, error = given.get("waits_for"), given.get("error")
    return Job(
        **_NO_JOB
        | given
        | {
            "status": JobStatus(given["status"]),
            "waits_for": None if waits_for is None else WaitsFor(waits_for),
            "progress": Progress(**given["progress"]) if given.get("progress") else Progress(),
            "error": None if error is None else JobError(**error),
            "history": tuple(map(_attempt, given.get("history", ()))),
        }
    )


def target_of(document: Document) -> ConversionTarget:
    """A document of `visstoredatas` as the service may see it."""
    return ConversionTarget(**_target_fields(document))


def dataset_of(document: Document) -> Dataset:
    """A document of `visstoredatas` as a record. What an older client left out has its default."""
    made = document.get("created_at") or document["_id"].generation_time
    return Dataset(
        **_target_fields(document),
        user=document.get("user") or document.get("user_id") or "",
        name=document.get("name") or document["uuid"],
        size_bytes=document.get("size_bytes", 0),
        tags=tuple(document.get("tags") or ()),
        description=document.get("description") or "",
        public=bool(document.get("public", False)),
        created_at=made,
        updated_at=document.get("updated_at") or made,
    )


def _target_fields(document: Document) -> dict[str, Any]:
    given = {name: document[name] for name in TARGET_FIELDS if document.get(name) is not None}
    wanted = given.get("wanted")
    return (
        {"sensor": "auto"}
        | given
        | {
            "status": status_of(document),
            "forms": tuple(given.get("forms", ())),
            "wanted": None if wanted is None else Wanted(**wanted),
        }
    )


def status_of(document: Document) -> DatasetStatus:
    """A data set's status. Raises `IncompatibleInstallation` where it is one of an older system."""
    try:
        return DatasetStatus(document.get("status", ""))
    except ValueError:
        which = f"data set {document['uuid']}" if "uuid" in document else "a data set"
        raise IncompatibleInstallation(
            f"{which} has the status {document.get('status')!r} of an older system; let `scientistcloud "
            "migrate-legacy` bring it over"
        ) from None


def _attempt(each: Document) -> Attempt:
    error = each.get("error")
    return Attempt(**each | {"error": None if error is None else JobError(**error)})


_NO_JOB: dict[str, Any] = dict.fromkeys(JOB_FIELDS)


# -- to the database -----------------------------------------------------------------------------


def document_of(record: Job | Dataset, names: Iterable[str]) -> Document:
    """The fields `names` of `record` that are not None."""
    return {name: lies for name in names if (lies := value_of(getattr(record, name))) is not None}


def folded_of(values: Mapping[str, Any], *, prefix: str = "") -> Document:
    """Twins of what `values` hold of the fields that are searched, in one case, named below `prefix`."""
    return {
        f"{prefix}{name}": [each.casefold() for each in value] if isinstance(value, list) else value.casefold()
        for name in SEARCHED
        if (value := values.get(name)) is not None
    }


def value_of(value: Any) -> Any:
    """A field's value as it lies in its document."""
    match value:
        case StrEnum():
            return value.value
        case Progress() | JobError() | Wanted() | Attempt():
            return {name: value_of(each) for name, each in asdict(value).items()}
        case Mapping():
            return dict(value)
        case tuple() | list():
            return [value_of(each) for each in value]
        case _:
            return value


def changes(before: Any, after: Any, names: Iterable[str]) -> Document:
    """The fields among `names` in which `after` differs from `before`, as they lie; None: to be absent."""
    return {
        name: value_of(new)
        for name in names
        if (new := getattr(after, name)) is not (old := getattr(before, name)) and new != old
    }


def update_of(values: Document, *, stamped: Iterable[str] = ()) -> Document:
    """The update that writes `values`; those of `stamped` become the server's time as it writes."""
    present = {name: value for name, value in values.items() if value is not None}
    stamps = [name for name in stamped if isinstance(present.get(name), datetime)]
    parts = {
        "$set": {name: value for name, value in present.items() if name not in stamps},
        "$unset": {name: "" for name, value in values.items() if value is None},
        "$currentDate": dict.fromkeys(stamps, True),
    }
    return {operator: part for operator, part in parts.items() if part}
