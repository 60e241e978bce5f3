"""What a job brings: source files take their place, get their records, and lead to the next job.

Each step can be repeated: the files and the list of them move at once, under the data set's guard and with the
attempt's token; the records are written from that list, which goes last. Another attempt of the job finds what this
one brought.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scientistcloud.datasets import wanted
from scientistcloud.errors import InvalidParameters
from scientistcloud.layout import source_path
from scientistcloud.ports import FormStore, Store
from scientistcloud.records import ConversionTarget, DatasetFile, Job, Json
from scientistcloud.tasks.contract import Arrival, Outcome

_AT_ONCE = 1000
_LINE_BYTES = 64 << 10

Insist = Callable[[Callable[[], None]], None]


def bring(
    outcome: Outcome, arrival: Arrival, *, store: Store, forms: FormStore, job: Job, output: Path, insist: Insist
) -> Outcome:
    """Put in place what the task brought; the outcome, whose result now says which job follows."""
    target = store.targets.get(job.dataset_uuid)
    if target is None:
        raise InvalidParameters(f"there is no data set {job.dataset_uuid}; it was removed, so the job ends")
    folder = forms.kept(job.dataset_uuid, job_id=job.job_id) if arrival.kept else output
    result = outcome.result | _then(target, job, arrival)
    forms.arrive(
        job.dataset_uuid,
        job_id=job.job_id,
        token=job.token,
        files=folder / _plain(arrival.folder),
        at=arrival.at,
        listing=folder / _plain(arrival.listing),
        outcome={"result": result},
    )
    record(job.dataset_uuid, store=store, forms=forms, token=job.token, insist=insist)
    forms.forget(job.dataset_uuid, job_id=job.job_id)
    forms.abandon(job.dataset_uuid, token=job.token)
    return Outcome(result=result)


def brought_before(job: Job, *, store: Store, forms: FormStore, insist: Insist) -> Outcome | None:
    """The outcome of an earlier attempt of the job that brought its files and did not come to its end."""
    arrived = forms.arrived(job.dataset_uuid)
    if arrived is None or arrived["job_id"] != job.job_id:
        return None
    record(job.dataset_uuid, store=store, forms=forms, token=arrived["token"], insist=insist)
    forms.forget(job.dataset_uuid, job_id=job.job_id)
    return Outcome(result=arrived["outcome"]["result"])


def record(dataset_uuid: str, *, store: Store, forms: FormStore, token: int, insist: Insist) -> None:
    """Write the records of the files on the list that the attempt with `token` brought; the list goes last."""
    listing = forms.listing(dataset_uuid, token=token)
    if not listing.exists():
        return  # they are written
    batch: list[DatasetFile] = []

    def put() -> None:
        insist(lambda: store.datasets.put_files(batch))
        batch.clear()

    for file in _files(dataset_uuid, listing):
        batch.append(file)
        if len(batch) == _AT_ONCE:
            put()
    put()
    listing.unlink(missing_ok=True)


def _files(dataset_uuid: str, listing: Path) -> Iterator[DatasetFile]:
    """What the list says; its lines come from a process that read what strangers sent."""
    with listing.open("rb") as lines:
        while line := lines.readline(_LINE_BYTES):
            try:
                match json.loads(line):
                    case {"path": str(path), "size_bytes": int(size_bytes), "sha256": str() | None as sha256}:
                        yield DatasetFile(
                            dataset_uuid=dataset_uuid,
                            path=str(source_path(path)),
                            size_bytes=max(0, size_bytes),
                            sha256=sha256,
                        )
                    case _:
                        raise ValueError(line)
            except ValueError:
                raise InvalidParameters("the task's list of files cannot be understood; mend the task") from None


def _then(target: ConversionTarget, job: Job, arrival: Arrival) -> dict[str, Any]:
    parameters: Json = job.parameters
    then = wanted.following(
        target, job_type=job.job_type, parameters=parameters, at=arrival.at, archive=arrival.archive
    )
    return {} if then is None else {"then": wanted.as_json(then)}


def _plain(name: str) -> str:
    if not name or "/" in name or name.startswith("."):
        raise InvalidParameters(f"a task cannot bring {name!r}; it gives a plain name")
    return name
