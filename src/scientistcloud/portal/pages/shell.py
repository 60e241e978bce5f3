"""What the frame around every page shows: where one can go, and what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scientistcloud.portal.api.jobs import FAILED
from scientistcloud.portal.live import AT_WORK
from scientistcloud.ports import Store
from scientistcloud.records import DatasetStatus, Person

READY = (DatasetStatus.DONE,)

#: The filters of the lists, by the name in the address: label, and the statuses that it shows (None: all).
FILTERS: Mapping[str, tuple[str, tuple[DatasetStatus, ...] | None]] = {
    "all": ("All", None),
    "ready": ("Ready", READY),
    "working": ("In progress", AT_WORK),
    "failed": ("Failed", FAILED),
    "cancelled": ("Cancelled", (DatasetStatus.CANCELLED,)),
}


@dataclass(frozen=True, slots=True)
class Shell:
    """The figures beside the links."""

    datasets: int
    at_work: int
    stored_bytes: int
    #: How many data sets each filter shows.
    filtered: Mapping[str, int]


def shell(store: Store, person: Person) -> Shell:
    """The figures for `person`."""
    counts = store.datasets.counts(user=person.email)
    filtered = {
        name: sum(counts.values()) if statuses is None else sum(counts.get(each, 0) for each in statuses)
        for name, (_, statuses) in FILTERS.items()
    }
    return Shell(
        datasets=filtered["all"],
        at_work=filtered["working"],
        stored_bytes=store.datasets.stored_bytes(user=person.email),
        filtered=filtered,
    )
