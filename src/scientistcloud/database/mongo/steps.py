"""The steps on single documents that the queue is made of. What becomes of a job is decided by `jobs.lifecycle`.

A process can die between any two of them, and others do theirs in between. So each write of a job is a
compare-and-set on the state that it was decided from, a line's single head is held by a unique index, and what is
owed after a write (the promotion of the next of the line) is found again by `heal`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from scientistcloud.database.mongo.collection import Document, Filter, Server, Taken
from scientistcloud.database.mongo.documents import JOB_FIELDS, PLACE, changes, document_of, job_of, update_of
from scientistcloud.database.mongo.places import Places
from scientistcloud.errors import NotFound, Stale
from scientistcloud.jobs import lifecycle
from scientistcloud.jobs.adoption import adopted
from scientistcloud.jobs.lifecycle import Beat, Claimed, Due, Event, Lost, Promoted, Retried
from scientistcloud.jobs.retry import LOST_PAUSE_SECONDS, pause_seconds
from scientistcloud.ports import Clock
from scientistcloud.records import Job, JobStatus, WaitsFor

STEP = 100
"""How many jobs of a kind one call moves at most, so that a million due at once hold nobody up."""

_TRIES = 100
# By the server's clock as it writes: a process can be stopped between its decision and the write, and care looks at
# what was written lately; leases are measured by that clock too.
_STAMPED = ("heartbeat_at", "updated_at")
_CHANGING = tuple(name for name in JOB_FIELDS if name not in ("job_id", "dataset_uuid", "job_type", "created_at"))


class Steps:
    """Steps on the queue of `server`; `ring` is called when a job may have become claimable, or due earlier."""

    def __init__(self, server: Server, clock: Clock, ring: Callable[[], None]) -> None:
        self._server = server
        self._clock = clock
        self._ring = ring
        self.tell_of_loss: Callable[[Job], None] = lambda _: None
        self._known_types: set[str] = set()
        self._places = Places(clock)

    # -- one job ---------------------------------------------------------------------------------

    def apply(self, job_id: str, event: Event) -> Job:
        """Let `event` happen to the job; a line whose head ended moves on. Raises `NotFound`."""
        for _ in range(_TRIES):
            before = self._job(job_id)
            after = lifecycle.after(before, event, self._clock.now())
            if after is before:
                if before.status.ended:
                    self.promote(before.dataset_uuid)  # who said it first may have died before that
                return before
            if (saved := self._save(before, after, beats=isinstance(event, Beat))) is not None:
                return saved
        raise Stale(f"job {job_id} is being changed by too many at once; try again")

    def retry(self, job_id: str) -> Job:
        """Put the job last in its line again."""
        for _ in range(_TRIES):
            before = self._job(job_id)
            # Asked first, because a place that is drawn for nothing would be the data set's newest.
            lifecycle.after(before, Retried(before.seq, line_free=False), self._clock.now())
            event = Retried(self.draw(before.dataset_uuid, "seq"), line_free=False)
            if self._save(before, lifecycle.after(before, event, self._clock.now())) is not None:
                self.promote(before.dataset_uuid)
                return self._job(job_id)
        raise Stale(f"job {job_id} is being changed by too many at once; try again")

    def claim(self, before: Job, *, worker_id: str, lease_seconds: float) -> Job | None:
        """Lease the job that was read as `before`; None where it is no longer so."""
        token = self.draw(before.dataset_uuid, "token")
        after = lifecycle.after(before, Claimed(worker_id, token, lease_seconds), self._clock.now())
        return self._save(before, after)

    # -- lines -----------------------------------------------------------------------------------

    def promote(self, dataset_uuid: str, *, free: bool = False) -> bool:
        """Give the line a head, if it has none and a job waits for its turn; whether it got one here.

        `free`: there is no head as far as the caller knows, so that the first look is saved.
        """
        for _ in range(_TRIES):
            if not free and not self._line_free(dataset_uuid):
                return False
            oldest = self._server.jobs.find_one(
                {"waits_for": WaitsFor.TURN.value, "dataset_uuid": dataset_uuid}, sort=[("seq", 1)]
            )
            if oldest is None:
                return False
            before = job_of(oldest)
            if self._head(before, lifecycle.after(before, Promoted(), self._clock.now())):
                return True
            free = False
        return False  # so many others promote here that there is a head by now

    def _head(self, before: Job, after: Job) -> bool:
        """Write a job that becomes the head of its line; False where it has changed, or the line has a head."""
        update = update_of(changes(before, after, _CHANGING), stamped=_STAMPED)
        try:
            done = self._server.jobs.update_one(_as_it_was(before), update)
        except Taken:
            return False
        if done:
            self._told(after)
        return done

    # -- care ------------------------------------------------------------------------------------

    def join_due(self) -> int:
        """Let at most 100 jobs whose time has come go on; how many were found."""
        now = self._clock.now()
        found = self._server.jobs.find(
            {"waits_for": WaitsFor.TIME.value, "run_at": {"$lte": now}}, sort=[("run_at", 1)], limit=STEP
        )
        # There are servers that compare dates by whole seconds; what they find too many is left out here.
        due = [each for each in found if each["run_at"] <= now]
        # Heads first: then no first run takes the place of one.
        for document in sorted(due, key=lambda each: ("head" not in each, each["run_at"], each[PLACE])):
            before = job_of(document)
            if before.head is not None:
                self._save(before, lifecycle.after(before, Due(line_free=True), now))
            else:
                self._join(before, now)
        return len(due)

    def _join(self, before: Job, now: datetime) -> None:
        """A first run that is due: the head of a line that is free, else one of those that wait for their turn."""
        self.promote(before.dataset_uuid)  # those that wait go first
        if self._line_free(before.dataset_uuid) and self._head(
            before, lifecycle.after(before, Due(line_free=True), now)
        ):
            return
        if self._save(before, lifecycle.after(before, Due(line_free=False), now)) is not None:
            self.promote(before.dataset_uuid)

    def reap(self, *, dead: Sequence[str] = ()) -> int:
        """Take back at most 100 jobs whose lease ran out, or whose worker is in `dead`; how many were found."""
        lost = self._lost_with(dead) if dead else self._lost_leases()
        for document in lost:
            before = job_of(document)
            pause = pause_seconds(
                before.attempt,
                chance=random.random(),  # noqa: S311  # jitter, not a secret
                first_seconds=LOST_PAUSE_SECONDS,
            )
            now = self._clock.now()
            after = lifecycle.after(before, Lost(pause, next_token=before.token + 1), now)
            if after.status.ended:
                after = lifecycle.after(before, Lost(pause, self.draw(before.dataset_uuid, "token")), now)
            if self._save(before, after, heartbeat_at=before.heartbeat_at) is not None:
                self.tell_of_loss(before)
        return len(lost)

    def _lost_with(self, dead: Sequence[str]) -> list[Document]:
        return self._server.jobs.find(
            {"status": JobStatus.RUNNING.value, "worker_id": {"$in": list(dead)}}, limit=STEP
        )

    def _lost_leases(self) -> list[Document]:
        now = self._server.now()
        lost: list[Document] = []
        lease_seconds = 0.0
        # One look for each length of lease that is in use, so that an index finds exactly those that ran out.
        while (
            longer := self._server.jobs.find_one(
                {"status": JobStatus.RUNNING.value, "lease_seconds": {"$gt": lease_seconds}},
                fields=("lease_seconds",),
                sort=[("lease_seconds", 1)],
            )
        ) is not None and len(lost) < STEP:
            lease_seconds = longer["lease_seconds"]
            oldest = now - timedelta(seconds=lease_seconds)
            found = self._server.jobs.find(
                {
                    "status": JobStatus.RUNNING.value,
                    "lease_seconds": lease_seconds,
                    "heartbeat_at": {"$lte": oldest},
                },
                limit=STEP - len(lost),
            )
            lost += [each for each in found if each["heartbeat_at"] < oldest]
        return lost

    def adopt(self) -> int:
        """Make at most 100 documents that other clients inserted into jobs of ours; how many were found."""
        found = self._server.jobs.find({PLACE: None}, limit=STEP)
        for document in found:
            dataset_uuid, job_type = str(document.get("dataset_uuid")), str(document.get("job_type"))
            job = adopted(
                job_id=str(document.get("job_id") or document["_id"]),
                dataset_uuid=dataset_uuid,
                job_type=job_type,
                status=str(document.get("status")),
                parameters=document.get("parameters"),
                seq=self.draw(dataset_uuid, "seq"),
                line_free=False,
                now=self._clock.now(),
            )
            self.note_type(job_type)
            values = dict.fromkeys(JOB_FIELDS) | document_of(job, JOB_FIELDS) | {PLACE: self._places.next()}
            if self._server.jobs.update_one({"_id": document["_id"], PLACE: None}, update_of(values)):
                self.promote(dataset_uuid)
        return len(found)

    def heal(self, lines: Iterable[str]) -> int:
        """Promote in those of `lines` that a crash left without a head; how many there were."""
        return sum(self.promote(dataset_uuid) for dataset_uuid in lines)

    def changed_since(self, moment: datetime) -> list[str]:
        """UUIDs of the data sets with a job whose `updated_at` is `moment` or later."""
        found = self._server.jobs.find({"updated_at": {"$gte": moment}}, fields=("updated_at", "dataset_uuid"))
        return list(dict.fromkeys(each["dataset_uuid"] for each in found if each["updated_at"] >= moment))

    def waiting_lines(self, *, after: str) -> Iterator[str]:
        """The data sets of which a job waits for its turn, by uuid, after the uuid `after`."""
        last = after
        # The index of turns is read one data set at a time, not one job at a time.
        while (
            line := self._server.jobs.find_one(
                {"waits_for": WaitsFor.TURN.value, "dataset_uuid": {"$gt": last}},
                fields=("dataset_uuid",),
                sort=[("dataset_uuid", 1)],
            )
        ) is not None:
            last = line["dataset_uuid"]
            yield last

    # -- details ---------------------------------------------------------------------------------

    def _job(self, job_id: str) -> Job:
        found = self._server.jobs.find_one({"job_id": job_id, PLACE: {"$gt": 0}})
        if found is None:
            raise NotFound(f"there is no job {job_id}; `scientistcloud jobs list` shows them")
        return job_of(found)

    def _save(self, before: Job, after: Job, *, beats: bool = False, **also: object) -> Job | None:
        """Write what changed, if the job is still `before` (and its fields are as `also` says); as it is then.

        `beats`: its heartbeat is stamped anew. Not for a job that becomes a head. A line whose head ended moves on.
        """
        values = changes(before, after, _CHANGING) | ({"heartbeat_at": after.heartbeat_at} if beats else {})
        update = update_of(values, stamped=_STAMPED)
        saved = self._server.jobs.find_one_and_update({**_as_it_was(before), **also}, update)
        if saved is None:
            return None
        self._told(after)
        if before.head is not None and after.head is None:
            self.promote(before.dataset_uuid, free=True)
        return job_of(saved)

    def _line_free(self, dataset_uuid: str) -> bool:
        return self._server.jobs.find_one({"head": dataset_uuid}, fields=("job_id",)) is None

    def draw(self, dataset_uuid: str, number: str, how_many: int = 1) -> int:
        """The next `seq` or `token` of the data set, the last of them if `how_many` are drawn.

        Those that are drawn for nothing leave a harmless gap.
        """
        while True:
            lane = self._server.lanes.find_one_and_update({"_id": dataset_uuid}, {"$inc": {number: how_many}})
            if lane is not None:
                return int(lane[number])
            try:
                self._server.lanes.insert_one({"_id": dataset_uuid, "seq": 0, "token": 0, number: how_many})
            except Taken:
                continue  # another made it
            return how_many

    def note_type(self, job_type: str) -> None:
        """A claim looks once at each type that was ever created; written before the first job of it."""
        if job_type not in self._known_types:
            with suppress(Taken):
                self._server.types.insert_one({"_id": job_type, "paused": False})
            self._known_types.add(job_type)

    def _told(self, job: Job) -> None:
        # Pauses too: a sleeper has to learn of an earlier due time.
        if job.waits_for in (WaitsFor.NOTHING, WaitsFor.TIME):
            self._ring()


def _as_it_was(job: Job) -> Filter:
    """What a write of the job compares: the state that it was decided from."""
    return {
        "job_id": job.job_id,
        "status": job.status.value,
        "token": job.token,
        "seq": job.seq,
        "waits_for": None if job.waits_for is None else job.waits_for.value,
        "cancel_requested": job.cancel_requested,
    }
