"""Writing to a data set what its jobs say of it, by `uuid`, from wherever a job changed."""

from __future__ import annotations

from dataclasses import dataclass

from scientistcloud.datasets.lifecycle import published, settled
from scientistcloud.errors import Stale
from scientistcloud.ports import FormStore, Store
from scientistcloud.records import ConversionTarget, Job, JobStatus, Json

_TRIES = 20


def settle(
    store: Store,
    dataset_uuid: str,
    *,
    token: int | None = None,
    form: Json | None = None,
    sensor: str | None = None,
) -> ConversionTarget | None:
    """Recompute the data set's status from its jobs and write it; None where the data set is gone.

    `token`: a worker's, which is refused with `LeaseLost` where a later claim has written. `form` and `sensor`:
    what the worker published. Without a token the write is a compare-and-set, tried again when somebody else
    wrote in between.
    """
    for _ in range(_TRIES):
        before = store.targets.get(dataset_uuid)
        if before is None:
            return None
        # The jobs are read after the record: whoever changes a job later settles after us.
        now = before if form is None else published(before, form=form, sensor=sensor)
        now = settled(now, store.jobs.line(dataset_uuid))
        if now == before and token is None:
            return before
        try:
            return store.targets.update(before, now, token=token)
        except Stale:
            continue
    raise Stale(f"data set {dataset_uuid} is being written by too many at once; care will settle it")


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A form that lies published and that the record does not name."""

    #: Who published it; None where it is known no more.
    job: Job | None
    form: Json
    sensor: str | None

    @property
    def owed(self) -> bool:
        """Its job is done, and its worker died, or a later claim came, before the record named it."""
        return self.job is not None and self.job.status is JobStatus.COMPLETED

    @property
    def unfinished(self) -> bool:
        """The job's next attempt finds it published, and finishes."""
        return self.job is not None and not self.job.status.ended


def unnamed(store: Store, forms: FormStore, target: ConversionTarget) -> Unnamed | None:
    """What lies published and `target` does not name; None where it names what lies there."""
    published = forms.published(target.uuid)
    shown = target.forms[-1].get("token") if target.forms else None
    if published is None or published["token"] == shown:
        return None
    outcome = published["outcome"]
    return Unnamed(store.jobs.get(published["job_id"]), outcome["form"], outcome["sensor"])


def settle_published(store: Store, forms: FormStore, dataset_uuid: str, *, token: int) -> None:
    """Write down the form that a completed job published and whose worker died before the record named it.

    A worker asks for this before it publishes anything itself: what it moves aside is only ever put back where
    the record names it. `token`: the worker's, refused with `LeaseLost` as in `settle`.
    """
    target = store.targets.get(dataset_uuid)
    if target is not None and (found := unnamed(store, forms, target)) is not None and found.owed:
        settle(store, dataset_uuid, token=token, form=found.form, sensor=found.sensor)
