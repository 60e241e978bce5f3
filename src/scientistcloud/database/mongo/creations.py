"""Jobs on their way into the queue: what stands in the way, then numbers, documents and heads, in that order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from scientistcloud.database.mongo.collection import Document, Server, Taken
from scientistcloud.database.mongo.documents import JOB_FIELDS, PLACE, document_of
from scientistcloud.database.mongo.places import Places
from scientistcloud.database.mongo.rooms import Rooms
from scientistcloud.database.mongo.steps import Steps
from scientistcloud.errors import IdempotencyConflict, QueueFull, Stale
from scientistcloud.jobs import lifecycle
from scientistcloud.ports import Clock
from scientistcloud.records import NewJob, WaitsFor

_AT_ONCE = 1000


class Creations:
    """Adds jobs to the queue of `server`; `ring` is called when one will be due."""

    def __init__(self, server: Server, clock: Clock, steps: Steps, ring: Callable[[], None]) -> None:
        self._server = server
        self._clock = clock
        self._steps = steps
        self._ring = ring
        self._places = Places(clock)
        self._rooms = Rooms(server, clock)

    def create(self, jobs: Sequence[NewJob], *, max_pending: int | None) -> list[str]:
        """Add `jobs` in order; the id of each. What shows to be refused is refused before the first is added."""
        known = self._known(jobs)
        # Of those with one key in this very call, the first; the others are it.
        firsts: dict[str, NewJob] = {}
        for new in jobs:
            key = new.idempotency_key
            if key is None or key not in known:
                first = firsts.setdefault(_name(new), new)
                _must_agree(new, first.job_id, first.dataset_uuid, first.job_type)
        known |= {new.idempotency_key: new.job_id for new in firsts.values() if new.idempotency_key is not None}
        if not self._insert(list(firsts.values()), max_pending):
            known |= self._known(list(firsts.values()))
        return [new.job_id if new.idempotency_key is None else known[new.idempotency_key] for new in jobs]

    def _known(self, jobs: Sequence[NewJob]) -> dict[str, str]:
        """The ids of those jobs whose idempotency keys are known, by key. Raises `IdempotencyConflict`."""
        by_key = {new.idempotency_key: new for new in jobs if new.idempotency_key is not None}
        keys, known, lines = list(by_key), {}, set()
        for start in range(0, len(keys), _AT_ONCE):
            for found in self._server.jobs.find(
                {"idempotency_key": {"$in": keys[start : start + _AT_ONCE]}},
                fields=("idempotency_key", "job_id", "dataset_uuid", "job_type"),
            ):
                new = by_key[found["idempotency_key"]]
                _must_agree(new, found["job_id"], found["dataset_uuid"], found["job_type"])
                known[found["idempotency_key"]] = str(found["job_id"])
                lines.add(found["dataset_uuid"])
        for dataset_uuid in lines:
            self._steps.promote(dataset_uuid)  # who created it may have died before that
        return known

    def _insert(self, jobs: Sequence[NewJob], max_pending: int | None) -> bool:
        """Add `jobs` to their lines, and promote where that is owed; False where others were faster with a key."""
        lines = _lines(jobs)
        for job_type in {new.job_type for new in jobs}:
            self._steps.note_type(job_type)
        last = self._numbers(lines, max_pending)
        seqs = {
            new.job_id: last[dataset_uuid] - len(line) + 1 + n
            for dataset_uuid, line in lines.items()
            for n, new in enumerate(line)
        }
        now = self._clock.now()
        made = [lifecycle.created(new, seq=seqs[new.job_id], line_free=False, now=now) for new in jobs]
        documents = [document_of(job, JOB_FIELDS) | {PLACE: self._places.next()} for job in made]
        added = [self._add(documents[start : start + _AT_ONCE]) for start in range(0, len(documents), _AT_ONCE)]
        for dataset_uuid, line in lines.items():
            self._steps.promote(dataset_uuid, free=last[dataset_uuid] == len(line))
        if any(job.waits_for is WaitsFor.TIME for job in made):
            self._ring()
        if max_pending is not None and not all(added):
            self._give_back(lines)
        return all(added)

    def _numbers(self, lines: Mapping[str, list[NewJob]], max_pending: int | None) -> dict[str, int]:
        """Draw a `seq` for each job; the last of each line. Raises `QueueFull`."""
        if max_pending is None:
            return {uuid: self._steps.draw(uuid, "seq", len(line)) for uuid, line in lines.items()}
        last: dict[str, int] = {}
        try:
            for uuid, line in lines.items():
                last[uuid] = self._rooms.reserve(uuid, [new.job_id for new in line], most=max_pending)
        except QueueFull:
            self._give_back({uuid: lines[uuid] for uuid in last})
            raise
        return last

    def _give_back(self, lines: Mapping[str, list[NewJob]]) -> None:
        for uuid, line in lines.items():
            self._rooms.release(uuid, [new.job_id for new in line])

    def _add(self, documents: Sequence[Document]) -> bool:
        try:
            if len(documents) == 1:
                self._server.jobs.insert_one(documents[0])
            else:
                self._server.jobs.insert_many(documents)
        except Taken:
            self._rooms.check([each["job_id"] for each in documents])
            if unkeyed := [each["job_id"] for each in documents if "idempotency_key" not in each]:
                there = self._server.jobs.find({"job_id": {"$in": unkeyed}}, fields=("job_id",))
                if len(there) < len(unkeyed):
                    raise Stale("a job of that id is there already; create it again") from None
            return False
        return True


def _lines(jobs: Sequence[NewJob]) -> Mapping[str, list[NewJob]]:
    lines: dict[str, list[NewJob]] = {}
    for new in jobs:
        lines.setdefault(new.dataset_uuid, []).append(new)
    return lines


def _name(new: NewJob) -> str:
    return f"id {new.job_id}" if new.idempotency_key is None else f"key {new.idempotency_key}"


def _must_agree(new: NewJob, job_id: str, dataset_uuid: str, job_type: str) -> None:
    if (dataset_uuid, job_type) != (new.dataset_uuid, new.job_type):
        raise IdempotencyConflict(
            f"the idempotency key {new.idempotency_key!r} stands for job {job_id} ({job_type} of data set "
            f"{dataset_uuid}); use another key for another job"
        )
