"""Which job a data set waits for: pure, and in one place, so that its key is the same whoever creates it.

::

    import ──> (an archive came) extraction ──> conversion
       └──────────────────────────────────────────^

A job that brings sources says in its `result`, as `then`, which one follows; `lifecycle.settled` makes it the data
set's `wanted`. Paths are relative to the data folder: workers may see it at another place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scientistcloud.datasets.lifecycle import CONVERSION, EXTRACTION, IMPORT, LOOK
from scientistcloud.layout import DataFolder
from scientistcloud.records import ConversionTarget, Json, Wanted

CONVERSION_OPTIONS = frozenset((
    "format", "array", "axes", "spacing", "scan", "bands", "fill", "reduce", "levels", "chunk", "shard", "codec",
))  # fmt: skip
"""What a person may overrule of a conversion; `scientistcloud convert` has options of the same names."""


def conversion(
    target: ConversionTarget,
    *,
    revision: int,
    request: str | None = None,
    at: str | None = None,
    options: Json | None = None,
) -> Wanted:
    """The conversion of the sources as they were closed for the `revision`-th time; of the part `at` of them.

    `options` are what a person overrules (`CONVERSION_OPTIONS`).
    """
    folder = DataFolder(Path()).dataset(target.uuid)
    source = Path(target.place) if target.place is not None else folder.source
    return Wanted(
        job_type=CONVERSION,
        idempotency_key=_key("convert", target, revision, request),
        parameters={
            **(options or {}),
            "input_path": (source / at if at else source).as_posix(),
            "output_path": folder.converted.as_posix(),
            "sensor_type": target.sensor,
        },
    )


def first_look(target: ConversionTarget) -> Wanted:
    """A first look at the sources as they were closed last; it is no promise that a status tells of."""
    return Wanted(
        job_type=LOOK,
        idempotency_key=_key("look", target, target.revision, None),
        parameters={"sensor_type": target.sensor},
    )


def extraction(
    target: ConversionTarget,
    *,
    archive: str,
    revision: int,
    request: str | None = None,
    limit_bytes: int | None = None,
    convert: bool = True,
    options: Json | None = None,
) -> Wanted:
    """The unpacking of the source file at the path `archive`, and then, with `convert`, the conversion.

    `limit_bytes`: what may come out, of the room that its people have left. `options` are kept for the conversion.
    """
    folder = DataFolder(Path()).dataset(target.uuid)
    return Wanted(
        job_type=EXTRACTION,
        idempotency_key=_key("extract", target, revision, request),
        parameters={
            "input_path": (folder.source / archive).as_posix(),
            "archive": archive,
            "limit_bytes": limit_bytes,
            "convert": convert,
            "request": request,
            **({"options": dict(options)} if options else {}),
        },
    )


def fetching(
    target: ConversionTarget, *, remote: Json, credential: str | None, limit_bytes: int | None, convert: bool
) -> Wanted:
    """The import of `remote` into the data set, and then, with `convert`, its conversion."""
    return Wanted(
        job_type=IMPORT,
        idempotency_key=_key("import", target, 1, None),
        parameters={
            "remote": dict(remote),
            "credential": credential,
            "limit_bytes": limit_bytes,
            "convert": convert,
        },
    )


def following(
    target: ConversionTarget, *, job_type: str, parameters: Json, at: str, archive: str | None
) -> Wanted | None:
    """What follows a job that brought sources to the place `at`; `archive` is the one file if it is one.

    None where no conversion was asked for, or where the data set was opened again meanwhile: its close decides.
    """
    if not parameters.get("convert", True) or target.closed_at is None:
        return None
    request, options = parameters.get("request"), parameters.get("options")
    if archive is not None:
        return extraction(
            target,
            archive=archive,
            revision=target.revision,
            request=request,
            limit_bytes=parameters.get("limit_bytes"),
            options=options,
        )
    unpacked = at if job_type == EXTRACTION else None
    return conversion(target, revision=target.revision, request=request, at=unpacked, options=options)


def as_json(wanted: Wanted) -> dict[str, Any]:
    """`wanted` for a job's `result`."""
    return {
        "job_type": wanted.job_type,
        "idempotency_key": wanted.idempotency_key,
        "parameters": dict(wanted.parameters),
    }


def _key(verb: str, target: ConversionTarget, revision: int, request: str | None) -> str:
    key = f"{verb}:{target.uuid}:{revision}"
    return key if request is None else f"{key}:{request}"
