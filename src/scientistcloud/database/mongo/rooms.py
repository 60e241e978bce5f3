"""Room in a data set's line: a cap that holds exactly, though creators on several machines race for the last place.

A creator notes its jobs in the lane (`coming`) by the very write that draws their numbers, and that write asks that
no number was drawn since it looked. So of two that saw the same room one gets it, and the other looks again and
sees who is coming. The note is of no use once the job is there, and whoever comes next removes it.

A creator that has not come for long has died, or is stopped. Before its place is given away its job is barred: an
entry with its id, which is no job, lies where its job would have to.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from scientistcloud.database.mongo.collection import Document, Server, Taken
from scientistcloud.database.mongo.documents import PLACE
from scientistcloud.errors import QueueFull, Stale, Unavailable
from scientistcloud.ports import Clock
from scientistcloud.records import JobStatus

_UNFINISHED = [JobStatus.PENDING.value, JobStatus.RUNNING.value]
_TRIES = 100
_FORGOTTEN_SECONDS = 600.0
_BARRED = -1
"""The place in the order of creation of what keeps a job from being added; jobs have a positive one."""


class Rooms:
    """Reserves room in the lines of the queue on `server`."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self._server = server
        self._clock = clock

    def reserve(self, dataset_uuid: str, job_ids: Sequence[str], *, most: int) -> int:
        """Draw a `seq` for each of `job_ids`, if the line then has no more than `most` unfinished jobs; the last.

        Raises `QueueFull`.
        """
        for _ in range(_TRIES):
            lane = self._server.lanes.find_one({"_id": dataset_uuid})
            now = self._clock.now().timestamp()
            coming = self._still_coming(dataset_uuid, (lane or {}).get("coming") or {}, now)
            # Asked after who is coming, so that nobody who came in between is missed.
            there = self._unfinished(dataset_uuid, most + len(coming) + 1)
            if len(there | coming.keys()) + len(job_ids) > most:
                if self._moved(dataset_uuid, lane):
                    continue
                raise QueueFull(
                    f"data set {dataset_uuid} has {len(there | coming.keys())} unfinished jobs, and no more than "
                    f"{most} are allowed; wait for one to end, or raise MAX_PENDING_PER_DATASET"
                )
            if (last := self._note(dataset_uuid, lane, coming | dict.fromkeys(job_ids, now), job_ids)) is not None:
                return last
        raise Stale(f"too many create jobs of data set {dataset_uuid} at once; try again")

    def release(self, dataset_uuid: str, job_ids: Sequence[str]) -> None:
        """Those of `job_ids` will not come."""
        for _ in range(_TRIES):
            lane = self._server.lanes.find_one({"_id": dataset_uuid})
            coming = dict((lane or {}).get("coming") or {})
            if lane is None or not coming.keys() & set(job_ids):
                return
            left = {job_id: at for job_id, at in coming.items() if job_id not in job_ids}
            if self._note(dataset_uuid, lane, left, [""]) is not None:  # the number that it draws is a gap
                return

    def check(self, job_ids: Sequence[str]) -> None:
        """See that none of `job_ids`, which could not be added, is barred. Raises `Unavailable`."""
        if self._server.jobs.find_one({"job_id": {"$in": list(job_ids)}, PLACE: _BARRED}, fields=("job_id",)):
            raise Unavailable("the creation of a job was held up for minutes, so it was given up; create it again")

    def _still_coming(self, dataset_uuid: str, noted: dict[str, float], now: float) -> dict[str, float]:
        came = self._server.jobs.find({"job_id": {"$in": list(noted)}}, fields=("job_id",)) if noted else []
        coming = {job_id: noted[job_id] for job_id in noted.keys() - {each["job_id"] for each in came}}
        for job_id in [job_id for job_id, at in coming.items() if now - at >= _FORGOTTEN_SECONDS]:
            with suppress(Taken):  # it came just now, and is counted with those that are there
                self._server.jobs.insert_one({"job_id": job_id, "dataset_uuid": dataset_uuid, PLACE: _BARRED})
            del coming[job_id]
        return coming

    def _unfinished(self, dataset_uuid: str, limit: int) -> set[str]:
        found = self._server.jobs.find(
            {"dataset_uuid": dataset_uuid, "status": {"$in": _UNFINISHED}}, fields=("job_id",), limit=limit
        )
        return {each["job_id"] for each in found}

    def _moved(self, dataset_uuid: str, lane: Document | None) -> bool:
        """Whether somebody drew a number meanwhile: what was seen may not have been so at any one moment."""
        now = self._server.lanes.find_one({"_id": dataset_uuid})
        return (now or {}).get("seq") != (lane or {}).get("seq")

    def _note(
        self, dataset_uuid: str, lane: Document | None, coming: dict[str, float], drawn_for: Sequence[str]
    ) -> int | None:
        """Write who is coming and draw numbers, if none was drawn since `lane` was read; the last, None if not."""
        if lane is None:
            try:
                self._server.lanes.insert_one(
                    {"_id": dataset_uuid, "seq": len(drawn_for), "token": 0, "coming": coming}
                )
            except Taken:
                return None
            return len(drawn_for)
        now = self._server.lanes.find_one_and_update(
            {"_id": dataset_uuid, "seq": lane["seq"]},
            {"$set": {"coming": coming}, "$inc": {"seq": len(drawn_for)}},
        )
        return None if now is None else int(now["seq"])
