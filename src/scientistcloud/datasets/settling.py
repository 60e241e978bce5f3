"""Writing to a data set what its jobs say of it, by `uuid`, from wherever a job changed."""

from __future__ import annotations

from typing import Any

from scientistcloud.datasets.lifecycle import published, settled
from scientistcloud.errors import Stale
from scientistcloud.ports import Store
from scientistcloud.records import ConversionTarget

_TRIES = 20


def settle(
    store: Store,
    dataset_uuid: str,
    *,
    token: int | None = None,
    form: dict[str, Any] | None = None,
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
