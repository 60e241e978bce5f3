"""What a job type offers: one `run`, called in a process of its own that opens no database.

A task is offered by entry point ``scientistcloud.tasks``, the built-in ones too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from scientistcloud.records import Json

Report = Callable[[float, str], None]
"""``report(fraction, step)``: progress from 0 to 1 and what is being done. Cheap; call it often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One attempt, as its task sees it."""

    job_id: str
    dataset_uuid: str
    job_type: str
    token: int
    parameters: Json
    #: Where the job reads, resolved and checked to lie under the data set's folder or a registered root.
    source: Path
    #: An empty folder; what is to appear in the data set's folder is written here.
    output: Path
    #: What the attempt may hold in memory.
    memory_bytes: int
    report: Report
    #: How large a file it may write, beyond which the system ends it; None: as large as it likes.
    file_bytes: int | None = None
    #: A folder of the job, which its next attempt finds as this one left it. Not there before somebody makes it.
    keep: Path = Path()
    #: What the operator lets tasks do: the settings that `settings.for_tasks` names.
    allowed: Json = field(default_factory=dict)
    #: What opens the remote source that the parameters name.
    secret: Json | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Source files that a task brings: they appear all at once."""

    #: The folder that holds them, in `Work.output`, or in `Work.keep` with `kept`.
    folder: str
    #: The place of that folder below the data set's `source/`; "" is that itself, where it has none yet.
    at: str
    #: A file beside the folder, a line of JSON for each file: `path` (below `source/`), `size_bytes`, `sha256`.
    listing: str
    #: The path of the only file, if that is an archive which is to be unpacked next.
    archive: str | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an attempt hands to the service. Crosses a process border as JSON."""

    #: The job's `result`.
    result: dict[str, Any] = field(default_factory=dict)
    #: Entries of `Work.output` that are to appear, all at once, in the data set's folder.
    publish: tuple[str, ...] = ()
    #: Becomes the data set's newest form; None where the task makes none.
    form: dict[str, Any] | None = None
    #: What the content turned out to be; becomes the data set's `sensor`.
    sensor: str | None = None
    #: None where the task brings no source files.
    arrival: Arrival | None = None


class Task(Protocol):
    """A job type."""

    job_type: str

    def run(self, work: Work) -> Outcome:
        """Do the work; raise `SourceError` for what another attempt would find again, anything else to retry."""
