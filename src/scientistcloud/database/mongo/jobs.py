"""The jobs of the queue: looks, and steps on single documents in an order that a crash anywhere leaves mendable."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice

from scientistcloud.database.mongo.collection import Bell, Document, Filter, Server
from scientistcloud.database.mongo.creations import Creations
from scientistcloud.database.mongo.documents import PLACE, job_of
from scientistcloud.database.mongo.figures import stats_of
from scientistcloud.database.mongo.steps import Steps
from scientistcloud.datasets.lifecycle import DELETION
from scientistcloud.errors import Cancelled, LeaseLost, NotFound, Unavailable
from scientistcloud.jobs.lifecycle import (
    CANARY,
    Beat,
    CancelAcknowledged,
    CancelAsked,
    Completed,
    Failed,
    Released,
)
from scientistcloud.ports import Clock
from scientistcloud.records import (
    Job,
    JobError,
    JobStatus,
    Json,
    Line,
    NewJob,
    Progress,
    QueueStats,
    WaitsFor,
)

_LOOK_SECONDS = 0.5
"""A claim looks for lost leases and for other clients' documents at most so often, in one process."""
_HEAL_SECONDS = 10.0
_OVERLAP = timedelta(minutes=1)
_UNHEALED_SECONDS = 30.0
"""A claim heals what crashes left by itself when nobody has noted for so long that he did."""
_LINES_AT_A_LOOK = 100
"""Care also looks at so many lines a round, whatever was written lately, and so comes round to each in time."""


class MongoJobs:
    """`ports.JobStore`."""

    def __init__(self, server: Server, clock: Clock, bell: Bell) -> None:
        self._server = server
        self._clock = clock
        self._bell = bell
        self._steps = Steps(server, clock, bell.ring)
        self._creations = Creations(server, clock, self._steps, bell.ring)
        # On the monotonic clock; threads may race for them, and then look once too often.
        self._looked_at: float | None = None
        self._asked_at: float | None = None
        self._healed_up_to = ""

    # -- creating --------------------------------------------------------------------------------

    def create(self, jobs: Sequence[NewJob], *, max_pending_per_dataset: int | None = None) -> list[str]:
        return self._creations.create(jobs, max_pending=max_pending_per_dataset)

    # -- working ---------------------------------------------------------------------------------

    def claim(
        self, worker_id: str, *, limit: int, job_types: Sequence[str] | None, lease_seconds: float
    ) -> list[Job]:
        self._keep_house()
        while ready := self._ready(limit, job_types):
            claimed = [
                job
                for before in ready
                if (job := self._steps.claim(before, worker_id=worker_id, lease_seconds=lease_seconds)) is not None
            ]
            if claimed:
                return claimed
            # Others were faster with each of them, so the queue moves; look again, not all at the same moment.
            time.sleep(0.002 * random.random())  # noqa: S311  # jitter, not a secret
        return []

    def heartbeat(self, job: Job, *, progress: Progress | None = None) -> Job:
        now = self._steps.apply(job.job_id, Beat(job.token, progress))
        if now.cancel_requested:
            raise Cancelled(f"the end of job {job.job_id} was asked for; stop, and acknowledge it")
        return now

    def complete(
        self,
        job: Job,
        *,
        result: Json | None,
        claim_next: bool = False,
        job_types: Sequence[str] | None = None,
    ) -> Job | None:
        self._steps.apply(job.job_id, Completed(job.token, result))
        claimed = self._claim_more(job, 1, job_types) if claim_next else []
        return claimed[0] if claimed else None

    def complete_many(
        self,
        ends: Sequence[tuple[Job, Json | None]],
        *,
        claim_next: bool = False,
        job_types: Sequence[str] | None = None,
    ) -> list[Job]:
        lost: list[LeaseLost] = []
        for job, result in ends:
            try:
                self._steps.apply(job.job_id, Completed(job.token, result))
            except LeaseLost as refused:
                lost.append(refused)
        if lost:
            raise LeaseLost("; ".join(map(str, lost)))
        return self._claim_more(ends[0][0], len(ends), job_types) if claim_next else []

    def _claim_more(self, before: Job, limit: int, job_types: Sequence[str] | None) -> list[Job]:
        """More for the worker of `before`; none where that fails, for its job is completed, as was asked for."""
        if before.worker_id is None or before.lease_seconds is None:
            return []
        try:
            return self.claim(
                before.worker_id, limit=limit, job_types=job_types, lease_seconds=before.lease_seconds
            )
        except Unavailable:
            return []

    def fail(self, job: Job, error: JobError, *, retry_after_seconds: float) -> Job:
        return self._steps.apply(job.job_id, Failed(job.token, error, retry_after_seconds))

    def release(self, job: Job) -> Job:
        return self._steps.apply(job.job_id, Released(job.token))

    def acknowledge_cancel(self, job: Job) -> Job:
        return self._steps.apply(job.job_id, CancelAcknowledged(job.token))

    # -- steering --------------------------------------------------------------------------------

    def cancel(self, job_id: str) -> Job:
        return self._steps.apply(job_id, CancelAsked())

    def retry(self, job_id: str) -> Job:
        return self._steps.retry(job_id)

    def pause(self, job_type: str) -> None:
        self._server.types.update_one({"_id": job_type}, {"$set": {"paused": True}}, upsert=True)

    def resume(self, job_type: str) -> None:
        self._server.types.update_one({"_id": job_type}, {"$set": {"paused": False}}, upsert=True)
        self._bell.ring()

    def paused(self) -> Sequence[str]:
        return sorted(each["_id"] for each in self._server.types.find({"paused": True}))

    # -- looking ---------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job | None:
        found = self._server.jobs.find_one({"job_id": job_id, PLACE: {"$gt": 0}})
        return None if found is None else job_of(found)

    def find(
        self,
        *,
        dataset_uuid: str | None = None,
        status: JobStatus | None = None,
        job_type: str | None = None,
        error: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Job]:
        order = PLACE if dataset_uuid is None else "seq"
        place = 0
        if after is not None:
            known = self._server.jobs.find_one({"job_id": after}, fields=(order,))
            if known is None:
                raise NotFound(f"there is no job {after} to go on after; list from the beginning")
            place = known[order]
        asked = {"dataset_uuid": dataset_uuid, "status": status and status.value, "job_type": job_type}
        conditions = {name: value for name, value in asked.items() if value is not None}
        found: list[Job] = []
        while True:
            page = self._server.jobs.find({**conditions, order: {"$gt": place}}, sort=[(order, 1)], limit=limit)
            found += [job for job in map(job_of, page) if _says(job, error)]
            if error is None or len(found) >= limit or len(page) < limit:
                return found[:limit]
            place = page[-1][order]

    def line(self, dataset_uuid: str) -> Line:
        head = self._server.jobs.find_one({"head": dataset_uuid, "job_type": {"$ne": DELETION}})
        last = self._server.jobs.find_one(
            {"dataset_uuid": dataset_uuid, "finished_at": {"$exists": True}, "job_type": {"$ne": DELETION}},
            sort=[("finished_at", -1), ("seq", -1)],
        )
        first = None if head is None else job_of(head)
        runs = first is not None and first.status is JobStatus.RUNNING
        return Line(
            running=first if runs else None,
            head=None if runs else first,
            last=None if last is None else job_of(last),
        )

    def current(self, dataset_uuids: Sequence[str]) -> Mapping[str, Job]:
        heads = self._server.jobs.find({"head": {"$in": list(dataset_uuids)}})
        current = {job.dataset_uuid: job for job in map(job_of, heads)}
        for dataset_uuid in dataset_uuids:
            if dataset_uuid not in current:
                newest = self._server.jobs.find_one(
                    {"dataset_uuid": dataset_uuid, "seq": {"$gt": 0}}, sort=[("seq", -1)]
                )
                if newest is not None:
                    current[dataset_uuid] = job_of(newest)
        return current

    def changed_since(self, moment: datetime) -> Sequence[str]:
        return self._steps.changed_since(moment)

    def claimable(self) -> Sequence[str]:
        known = [each["_id"] for each in self._server.types.find({})]
        ready = self._server.jobs.find(
            {"waits_for": WaitsFor.NOTHING.value, "job_type": {"$in": known}}, fields=("job_id",)
        )
        due = self._server.jobs.find(
            {
                "waits_for": WaitsFor.TIME.value,
                "head": {"$exists": True},
                "run_at": {"$lte": self._clock.now()},
            },
            fields=("job_id",),
        )
        return [each["job_id"] for each in (*ready, *due)]

    def stats(self) -> QueueStats:
        return stats_of(self._server, self._clock.now())

    # -- care ------------------------------------------------------------------------------------

    def recover(self, *, dead: Sequence[str] = ()) -> int:
        touched = 0
        while moved := self._steps.reap(dead=dead) if dead else 0:
            touched += moved
        while moved := self._steps.reap() + self._steps.join_due():
            touched += moved
        return touched + self._heal(also=_LINES_AT_A_LOOK)

    def on_loss(self, tell: Callable[[Job], None]) -> None:
        self._steps.tell_of_loss = tell

    def adopt(self) -> int:
        adopted = 0
        while moved := self._steps.adopt():
            adopted += moved
        return adopted

    def prune(self, *, before: datetime, keep: int | None = None, limit: int = 500) -> Sequence[str]:
        gone = self._prune({"finished_at": {"$lte": before}}, limit, before=before)
        if keep is not None and len(gone) < limit:
            over = self._server.jobs.count({"finished_at": {"$exists": True}}) - keep
            if over > 0:
                gone += self._prune({"finished_at": {"$exists": True}}, min(over, limit - len(gone)))
        return gone

    def _prune(self, which: Filter, limit: int, *, before: datetime | None = None) -> list[str]:
        """Remove the oldest that ended, of those that fit `which` and are not the newest of their data set."""
        gone: list[str] = []
        where: Filter = which
        while page := self._server.jobs.find(
            where,
            fields=("job_id", "dataset_uuid", "seq", "finished_at", PLACE),
            sort=[("finished_at", 1), (PLACE, 1)],
            limit=limit,
        ):
            for each in page:
                if before is not None and each["finished_at"] >= before:
                    return gone
                newer = {"dataset_uuid": each["dataset_uuid"], "seq": {"$gt": each["seq"]}}
                same = {name: each[name] for name in ("job_id", "seq", "finished_at")}
                if self._server.jobs.find_one(newer, fields=("seq",)) and self._server.jobs.delete(same):
                    gone.append(each["job_id"])
                    if len(gone) == limit:
                        return gone
            ended, place = page[-1]["finished_at"], page[-1][PLACE]
            after = [{"finished_at": {"$gt": ended}}, {"finished_at": ended, PLACE: {"$gt": place}}]
            where = {"$and": [which, {"$or": after}]}
        return gone

    def remove(self, dataset_uuid: str) -> None:
        self._server.jobs.delete({"dataset_uuid": dataset_uuid})
        self._server.lanes.delete({"_id": dataset_uuid})

    # -- waking ----------------------------------------------------------------------------------

    def wait(self, seconds: float) -> bool:
        return self._bell.sleep(seconds, self._seconds_to_next_due())

    def rouse(self) -> None:
        self._bell.rouse()

    # -- details ---------------------------------------------------------------------------------

    def _ready(self, limit: int, job_types: Sequence[str] | None) -> list[Job]:
        """The heads that wait for nothing, lowest `rank` first: one look for each type that is not paused."""
        named = {"$ne": CANARY} if job_types is None else {"$in": list(job_types)}
        types = self._server.types.find({"_id": named, "paused": {"$ne": True}})
        found: list[Document] = []
        for each in types:
            found += self._server.jobs.find(
                {"waits_for": WaitsFor.NOTHING.value, "job_type": each["_id"]},
                sort=[("rank", 1), (PLACE, 1)],
                limit=limit,
            )
        found.sort(key=lambda document: (document["rank"], document[PLACE]))
        return [job_of(document) for document in found[:limit]]

    def _keep_house(self) -> None:
        """What a claim does beside: the queue recovers without a service."""
        now = self._clock.monotonic()
        if self._looked_at is None or now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._steps.reap()
            self._steps.adopt()
        self._steps.join_due()
        if self._asked_at is None or now - self._asked_at >= _HEAL_SECONDS:
            self._asked_at = now
            noted = self._server.meta.find_one({"_id": "healed"})
            if noted is None or self._server.now() - noted["at"] >= timedelta(seconds=_UNHEALED_SECONDS):
                self._heal()

    def _heal(self, *, also: int = 0) -> int:
        """Promote what crashes left waiting, and note since when that is done for all to see.

        It looks at the lines of jobs that were written since it was noted last (at all lines where it never was),
        and at `also` others.
        """
        began = self._server.now()
        noted = self._server.meta.find_one({"_id": "healed"})
        if noted is None:
            healed = self._steps.heal(self._steps.waiting_lines(after=""))
        else:
            healed = self._steps.heal(self._steps.changed_since(noted["at"] - _OVERLAP))
            others = list(islice(self._steps.waiting_lines(after=self._healed_up_to), also))
            healed += self._steps.heal(others)
            self._healed_up_to = others[-1] if others and len(others) == also else ""
        self._server.meta.update_one({"_id": "healed"}, {"$set": {"at": began}}, upsert=True)
        return healed

    def _seconds_to_next_due(self) -> float | None:
        first = self._server.jobs.find_one(
            {"waits_for": WaitsFor.TIME.value}, fields=("run_at",), sort=[("run_at", 1)]
        )
        if first is None:
            return None
        run_at: datetime = first["run_at"]
        return max(0.0, (run_at - self._clock.now()).total_seconds())


def _says(job: Job, error: str | None) -> bool:
    """Whether `error` is part of what went wrong with the job, case ignored."""
    if error is None:
        return True
    return job.error is not None and error.casefold() in f"{job.error.type} {job.error.message}".casefold()
