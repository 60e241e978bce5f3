"""Data that stay where they are: registered when they are complete, and watched for changes.

A data set appears once its files are closed and quiet: nobody writes to them, and size and time of change of all of
them were the same for a while. Nothing is copied, and nothing is written where they lie.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scientistcloud.datasets import catalogue
from scientistcloud.datasets.lifecycle import Closed, SourcesChanged, after, is_whole
from scientistcloud.datasets.wanted import conversion, first_look
from scientistcloud.errors import InvalidParameters, ScientistCloudError, UnsafeSource, UnsupportedSource
from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.places import (
    FileState,
    candidates,
    is_being_written,
    is_passed_over,
    require_roots,
    root_of,
    state_of,
)
from scientistcloud.ports import Store
from scientistcloud.records import Dataset, DatasetFile, DatasetStatus
from scientistcloud.uploads.archives import is_archive

_PAGE = 10_000
_NAMED = 3
State = Mapping[str, FileState]


@dataclass(frozen=True, slots=True)
class Event:
    """What a look found."""

    #: `registered`, `changed`, `gone`, `waiting` (not quiet yet) or `refused`.
    what: str
    place: Path
    said: str
    dataset_uuid: str | None = None


class Registrar:
    """Registers what lies in the folder `root`, for `user`.

    Parameters
    ----------
    roots
        Those that the operator allows; raises `InvalidSettings` where there is none, `InvalidParameters` where
        `root` lies in none of them.
    quiet_seconds
        For so long nothing may have changed.
    convert
        Queue a conversion of each data set that appears or changes.
    look
        Where nothing is converted, have a first look at each made: a job of seconds.
    as_one
        `root` itself is the data set, not each file and folder in it.
    """

    def __init__(
        self,
        store: Store,
        root: Path,
        *,
        roots: Sequence[Path],
        user: str,
        quiet_seconds: float,
        convert: bool = False,
        look: bool = False,
        sensor: str = catalogue.AUTO,
        as_one: bool = False,
    ) -> None:
        require_roots(roots)
        # As it is called, and not where a link leads: that is how people know it.
        self.root = Path(os.path.abspath(root))  # noqa: PTH100  no link is resolved
        if not self.root.exists():
            raise InvalidParameters(f"there is no file or folder {self.root}; check its name")
        try:
            root_of(self.root, roots)
        except UnsafeSource as refused:
            raise InvalidParameters(str(refused)) from refused
        self._store = store
        self._queue = JobQueueManager(store)
        self._roots = roots
        self._user = user
        self.quiet_seconds = quiet_seconds
        self._convert = convert
        self._look = look and not convert
        self._sensor = sensor
        self._as_one = as_one
        self._now = store.clock.monotonic
        #: Place -> its state, and since when it has been so.
        self._seen: dict[Path, tuple[State, float]] = {}
        #: What its owner deleted, as of the last look at everything.
        self._deleted: set[Path] = set()
        #: What was said already, so that it is said once.
        self._said: dict[Path, str] = {}

    def look(self, *, first: bool = False) -> Iterator[Event]:
        """Look at everything once; what is new. `first`: files that are old enough need not be seen twice."""
        known = self._registered(self.root)
        self._deleted = self._deleted_places()
        there = candidates(self.root, as_one=self._as_one)
        for place in there:
            yield from self._look_safely(place, known.get(place), first=first)
        for place, dataset in known.items():
            if place not in there and not place.exists():
                yield from self._gone(place, dataset)

    def look_at(self, paths: Iterable[Path]) -> Iterator[Event]:
        """Look again at what the `paths` that changed belong to, and at what waits; for a root with many others."""
        places = {self._place_of(path) for path in paths} | set(self._seen)
        for place in sorted(each for each in places if each is not None):
            dataset = self._registered(place).get(place)
            if place.exists():
                yield from self._look_safely(place, dataset, first=False)
            else:
                self._seen.pop(place, None)
                if dataset is not None:
                    yield from self._gone(place, dataset)

    def _place_of(self, path: Path) -> Path | None:
        """The candidate that `path` is, or lies in."""
        if self._as_one or not self.root.is_dir():
            return self.root
        try:
            first = path.relative_to(self.root).parts[0]
        except (ValueError, IndexError):
            return None
        return None if is_passed_over(first) else self.root / first

    def _registered(self, place: Path) -> dict[Path, Dataset]:
        return {Path(each.place): each for each in self._store.datasets.registered(str(place)) if each.place}

    def _look_safely(self, place: Path, dataset: Dataset | None, *, first: bool) -> Iterator[Event]:
        if place in self._deleted:
            return
        try:
            yield from self._look_at(place, dataset, first=first)
        except ScientistCloudError as refused:
            yield from self._once(Event("refused", place, str(refused)))

    @property
    def waiting(self) -> int:
        """How many were not quiet yet at the last look."""
        return len(self._seen)

    # -- one place -------------------------------------------------------------------------------

    def _look_at(self, place: Path, dataset: Dataset | None, *, first: bool) -> Iterator[Event]:
        state = state_of(place, self._roots)
        if dataset is None and place.is_file() and is_archive(place.name, place):
            raise UnsupportedSource(
                f"{place.name} is an archive, and nothing is written where it lies; unpack it there, or upload it"
            )
        recorded = self._recorded(dataset) if dataset is not None else {}
        if dataset is not None and dataset.closed_at is not None and state == recorded:
            self._seen.pop(place, None)
            return
        if not state and dataset is None:
            return  # an empty folder
        if not state and dataset is not None:
            yield from self._gone(place, dataset)
            return
        if not self._is_quiet(place, state, first=first):
            yield from self._once(Event("waiting", place, "its files are still being written"))
            return
        self._said.pop(place, None)
        self._seen.pop(place, None)
        if dataset is None or dataset.closed_at is None:
            yield self._register(place, state, dataset)
        else:
            yield self._changed(place, state, recorded, dataset)

    def _is_quiet(self, place: Path, state: State, *, first: bool) -> bool:
        before, since = self._seen.get(place, (None, 0.0))
        now = self._now()
        if before != state:
            since = now
            self._seen[place] = (state, now)
        newest = max(each.modified_ns for each in state.values()) / 1e9
        settled = first and self._store.clock.now().timestamp() - newest > self.quiet_seconds
        if not settled and now - since < self.quiet_seconds:
            return False
        return not is_being_written(place, list(state))

    def _register(self, place: Path, state: State, dataset: Dataset | None) -> Event:
        """The record, open; its files; a look; its close, and the job that it waits for. Each can be repeated.

        Nothing but the close is found undone by the next look at everything, so the look is asked for before it.
        """
        if dataset is None:
            dataset = catalogue.open_registered(
                self._store, user=self._user, name=_name(place), sensor=self._sensor, place=str(place)
            )
        self._put(dataset, state)
        work = conversion(dataset, revision=dataset.revision + 1) if self._convert else None
        closed = Closed(work, self._store.clock.now())
        self._ask_for_a_look(after(dataset, closed))
        self._create_wanted(self._write(dataset.uuid, lambda each: after(each, closed)))
        return Event("registered", place, f"{len(state)} files", dataset.uuid)

    def _changed(self, place: Path, state: State, recorded: State, dataset: Dataset) -> Event:
        """The notice and what follows from it, then the files: while these differ, the change is found again."""
        said = _difference(recorded, state)

        def changed(each: Dataset) -> Dataset:
            work = conversion(each, revision=each.revision + 1) if self._convert else None
            return after(each, SourcesChanged(said, work))

        dataset = self._write(dataset.uuid, changed)
        self._create_wanted(dataset)
        self._ask_for_a_look(dataset)
        for path in recorded.keys() - state.keys():
            self._store.datasets.remove_file(dataset.uuid, path)
        self._put(dataset, {path: each for path, each in state.items() if recorded.get(path) != each})
        return Event("changed", place, said, dataset.uuid)

    def _gone(self, place: Path, dataset: Dataset) -> Iterator[Event]:
        said = f"{place} is gone; what was converted stays"
        if dataset.notice != said:
            self._write(dataset.uuid, lambda each: replace(each, notice=said))
            yield Event("gone", place, said, dataset.uuid)

    # -- records ---------------------------------------------------------------------------------

    def _put(self, dataset: Dataset, state: State) -> None:
        self._store.datasets.put_files(
            [
                DatasetFile(
                    dataset_uuid=dataset.uuid, path=path, size_bytes=each.size_bytes, modified_ns=each.modified_ns
                )
                for path, each in state.items()
            ]
        )

    def _recorded(self, dataset: Dataset) -> State:
        found: dict[str, FileState] = {}
        last: str | None = None
        while page := self._store.datasets.files(dataset.uuid, after=last, limit=_PAGE):
            found |= {file.path: FileState(file.size_bytes, file.modified_ns or 0) for file in page}
            last = page[-1].path
        return found

    def _deleted_places(self) -> set[Path]:
        """What its owner deleted: it does not come back while that can still be undone."""
        found: set[Path] = set()
        last: str | None = None
        while page := self._store.datasets.find(user=self._user, deleted=True, after=last, limit=1000):
            found |= {Path(each.place) for each in page if each.place}
            last = page[-1].uuid
        return found

    def _write(self, dataset_uuid: str, change: Callable[[Dataset], Dataset]) -> Dataset:
        return catalogue.change(self._store, dataset_uuid, change)

    def _create_wanted(self, dataset: Dataset) -> None:
        if dataset.wanted is not None and dataset.status is DatasetStatus.CONVERSION_QUEUED:
            self._queue.create_job(
                dataset_uuid=dataset.uuid,
                job_type=dataset.wanted.job_type,
                parameters=dataset.wanted.parameters,
                idempotency_key=dataset.wanted.idempotency_key,
            )

    def _ask_for_a_look(self, dataset: Dataset) -> None:
        """Unless there is a whole form, which a look would replace."""
        if not self._look or is_whole(dataset):
            return
        work = first_look(dataset)
        self._queue.create_job(
            dataset_uuid=dataset.uuid,
            job_type=work.job_type,
            parameters=work.parameters,
            idempotency_key=work.idempotency_key,
        )

    def _once(self, event: Event) -> Iterator[Event]:
        if self._said.get(event.place) != event.said:
            self._said[event.place] = event.said
            yield event


def _difference(before: State, now: State) -> str:
    """In words: what became of the files."""
    parts = []
    for word, paths in (
        ("changed", [path for path in now if path in before and now[path] != before[path]]),
        ("new", [path for path in now if path not in before]),
        ("gone", [path for path in before if path not in now]),
    ):
        if paths:
            named = ", ".join(sorted(paths)[:_NAMED]) + (" …" if len(paths) > _NAMED else "")
            parts.append(f"{len(paths)} {'file' if len(paths) == 1 else 'files'} {word} ({named})")
    return "; ".join(parts) + " since it was registered or converted"


def _name(place: Path) -> str:
    name = "".join(c for c in place.name if ord(c) > 31 and ord(c) != 127).encode(errors="replace").decode()
    return name.strip()[:300] or "data"
