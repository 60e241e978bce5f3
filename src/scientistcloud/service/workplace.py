"""What all attempts of a service work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scientistcloud.jobs.queue import JobQueueManager
from scientistcloud.layout import DataFolder
from scientistcloud.ports import FormStore, Store
from scientistcloud.records import Json
from scientistcloud.service.runner import Runner
from scientistcloud.service.tally import Tally
from scientistcloud.service.tracing import Tracing


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """The service's store, folder and limits, shared by its attempts."""

    store: Store
    queue: JobQueueManager
    forms: FormStore
    runner: Runner
    tally: Tally
    tracing: Tracing
    folder: DataFolder
    lease_seconds: float
    stall_seconds: float
    memory_bytes: int
    file_bytes: int
    log_bytes: int
    #: What tasks may see of the settings: `tasks.contract.Work.allowed`.
    allowed: Json
    register_roots: Sequence[Path]
