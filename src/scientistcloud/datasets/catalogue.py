"""The records of data sets, as intake and portal change them: opened, closed, opened again, described.

Each function is one durable change or none, and can be repeated. Who may do it is not asked here.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from scientistcloud.datasets.lifecycle import Closed, ConversionWanted, Reopened, UploadFailed, after
from scientistcloud.datasets.wanted import CONVERSION_OPTIONS, conversion, extraction, fetching
from scientistcloud.errors import InvalidParameters, InvalidTransition, NotFound, Stale
from scientistcloud.ports import Store
from scientistcloud.records import Dataset, DatasetStatus, Json, Wanted

AUTO = "auto"
"""The sensor where nobody named one: the content decides."""

_TRIES = 20


@dataclass(frozen=True, slots=True)
class Archive:
    """The one source file of a data set, an archive, which is unpacked before the conversion."""

    path: str
    #: What may come out of it, of the room that its people have left; None: what the disk holds.
    limit_bytes: int | None = None


_NAME_LENGTH, _SENSOR_LENGTH, _TEXT_LENGTH, _REQUEST_LENGTH, _TAGS = 300, 64, 20_000, 64, 50


def open_dataset(
    store: Store,
    *,
    user: str,
    name: str,
    sensor: str = AUTO,
    description: str = "",
    tags: Sequence[str] = (),
    dataset_uuid: str | None = None,
) -> Dataset:
    """A new data set, `uploading` and open for files; durable when this returns."""
    now = store.clock.now()
    dataset = Dataset(
        uuid=dataset_uuid or new_uuid(),
        user=user,
        name=checked_name(name),
        sensor=checked_sensor(sensor),
        status=DatasetStatus.UPLOADING,
        description=_checked_text(description, "description", _TEXT_LENGTH),
        tags=_checked_tags(tags),
        created_at=now,
        updated_at=now,
    )
    store.datasets.add(dataset)
    return dataset


def open_import(
    store: Store,
    *,
    user: str,
    name: str,
    sensor: str,
    remote: Json,
    credential: str | None,
    limit_bytes: int | None,
    convert: bool,
) -> Dataset:
    """A new data set that waits for the job which fetches `remote` (its `wanted`); durable when this returns."""
    now = store.clock.now()
    dataset = Dataset(
        uuid=new_uuid(),
        user=user,
        name=checked_name(name),
        sensor=checked_sensor(sensor),
        status=DatasetStatus.UPLOADING,
        created_at=now,
        updated_at=now,
    )
    work = fetching(dataset, remote=remote, credential=credential, limit_bytes=limit_bytes, convert=convert)
    dataset = after(dataset, Closed(work, now))
    store.datasets.add(dataset)
    return dataset


def open_registered(store: Store, *, user: str, name: str, sensor: str, place: str) -> Dataset:
    """A new data set whose files lie at the path `place` and stay there; open until it is closed."""
    now = store.clock.now()
    dataset = Dataset(
        uuid=new_uuid(),
        user=user,
        name=checked_name(name),
        sensor=checked_sensor(sensor),
        status=DatasetStatus.UPLOADING,
        place=place,
        created_at=now,
        updated_at=now,
    )
    store.datasets.add(dataset)
    return dataset


def new_uuid() -> str:
    """The uuid of a data set to come."""
    return str(uuid.uuid4())


def close(
    store: Store,
    dataset_uuid: str,
    *,
    convert: bool = True,
    sensor: str | None = None,
    only_revision: int | None = None,
    archive: Archive | None = None,
    at: str | None = None,
) -> Dataset:
    """All files have arrived: the record says so, and which job it now waits for (`wanted`).

    Where `archive` is all there is, that is its extraction; `at` is where such a one was unpacked before, and what
    is converted. Nothing happens where it is closed already, or where
    `only_revision` is given and the sources have been closed since (a replay must not close what somebody opened
    again). Raises `NotFound`.
    """

    def closed(dataset: Dataset) -> Dataset:
        if dataset.closed_at is not None or only_revision not in (None, dataset.revision):
            return dataset
        named = replace(dataset, sensor=checked_sensor(sensor or dataset.sensor))
        wanted = _work_on(named, archive, at, revision=dataset.revision + 1) if convert else None
        return after(named, Closed(wanted, store.clock.now()))

    return change(store, dataset_uuid, closed)


def reopen(store: Store, dataset_uuid: str) -> Dataset:
    """Open for more files. Raises `NotFound`; `InvalidTransition` while a job works on it."""
    return change(store, dataset_uuid, lambda dataset: after(dataset, Reopened()))


def want_conversion(
    store: Store,
    dataset_uuid: str,
    *,
    request: str,
    sensor: str | None = None,
    options: Json | None = None,
    archive: Archive | None = None,
    at: str | None = None,
) -> Dataset:
    """ "Convert again": the record says that it waits for the job of this `request`.

    `request` is drawn by whoever asks, so that a double click makes one job; `options` are those of
    `wanted.CONVERSION_OPTIONS` that are overruled. Raises `NotFound`, `InvalidTransition` while the data set is
    open, `InvalidParameters`.
    """
    unknown = set(options or {}) - CONVERSION_OPTIONS
    if unknown:
        raise InvalidParameters(f"a conversion has no option {', '.join(sorted(unknown))}; see `convert --help`")
    if not request or len(request) > _REQUEST_LENGTH or not request.isprintable():
        raise InvalidParameters(
            f"the request is {request[:80]!r}; draw 1 to {_REQUEST_LENGTH} printable characters"
        )

    def wanting(dataset: Dataset) -> Dataset:
        named = replace(dataset, sensor=checked_sensor(sensor or dataset.sensor))
        work = _work_on(named, archive, at, revision=dataset.revision, request=request, options=options)
        return after(named, ConversionWanted(work))

    return change(store, dataset_uuid, wanting)


def fail_upload(store: Store, dataset_uuid: str, message: str) -> Dataset:
    """The upload will not go on: the record says why, and goes where nothing has arrived. Closed ones stay."""

    def failed(dataset: Dataset) -> Dataset:
        if dataset.closed_at is not None:
            return dataset
        empty = not store.datasets.files(dataset_uuid, limit=1)
        return replace(
            after(dataset, UploadFailed(message)), deleted_at=store.clock.now() if empty else dataset.deleted_at
        )

    return change(store, dataset_uuid, failed)


def describe(
    store: Store,
    dataset_uuid: str,
    *,
    name: str | None = None,
    description: str | None = None,
    tags: Sequence[str] | None = None,
    public: bool | None = None,
) -> Dataset:
    """Write what people say of it: what is given, and nothing else. Raises `InvalidParameters`, `NotFound`."""
    return store.datasets.describe(
        dataset_uuid,
        name=None if name is None else checked_name(name),
        description=None if description is None else _checked_text(description, "description", _TEXT_LENGTH),
        tags=None if tags is None else _checked_tags(tags),
        public=public,
    )


def checked_name(name: str) -> str:
    """`name`, if people can tell a data set by it: some text in one line, kept exactly as it is."""
    if not name.strip() or any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise InvalidParameters(f"the name {name[:60]!r} is empty or holds control characters; give it a plain one")
    return _checked_text(name, "name", _NAME_LENGTH)


def checked_sensor(sensor: str) -> str:
    """`sensor`, if it could be one; whether there is such a one is known where data are read."""
    if not sensor or len(sensor) > _SENSOR_LENGTH or not sensor.isprintable():
        raise InvalidParameters(f"the sensor {sensor[:60]!r} is none; `scientistcloud sensors` lists them")
    return sensor


def _checked_text(text: str, what: str, length: int) -> str:
    if len(text) > length:
        raise InvalidParameters(f"the {what} has {len(text)} characters, more than {length}; shorten it")
    if "\0" in text or not _is_unicode(text):
        raise InvalidParameters(f"the {what} is not valid Unicode text; mend it")
    return text


def _checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    if len(tags) > _TAGS:
        raise InvalidParameters(f"{len(tags)} tags are more than {_TAGS}; choose the most telling ones")
    return tuple(dict.fromkeys(checked_name(tag) for tag in tags))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _work_on(
    dataset: Dataset,
    archive: Archive | None,
    at: str | None,
    *,
    revision: int,
    request: str | None = None,
    options: Json | None = None,
) -> Wanted:
    if archive is None:
        return conversion(dataset, revision=revision, request=request, at=at, options=options)
    return extraction(
        dataset,
        archive=archive.path,
        revision=revision,
        request=request,
        limit_bytes=archive.limit_bytes,
        options=options,
    )


def change(store: Store, dataset_uuid: str, to: Callable[[Dataset], Dataset]) -> Dataset:
    """Read, change and write the record by compare-and-set, again where somebody else wrote in between."""
    for _ in range(_TRIES):
        before = store.datasets.get(dataset_uuid)
        if before is None or before.deleted_at is not None:
            raise NotFound(f"there is no data set {dataset_uuid}; your list shows those that there are")
        changed = to(before)
        if changed == before:
            return before
        try:
            return store.datasets.update(before, changed)
        except Stale:
            continue
    raise Stale(f"data set {dataset_uuid} is being written by too many at once; try again")


def require_open(dataset: Dataset) -> None:
    """Raises `InvalidTransition` where no file can be added."""
    if dataset.closed_at is not None:
        raise InvalidTransition(f"data set {dataset.uuid} is closed; open it again to add files")
    if dataset.place is not None:
        raise InvalidTransition(f"the files of data set {dataset.uuid} stay at {dataset.place}; add them there")
