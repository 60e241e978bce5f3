"""Who may do what with a data set: pure."""

from __future__ import annotations

from enum import StrEnum

from scientistcloud.records import Dataset, Person


class Action(StrEnum):
    """What can be asked for."""

    #: What it holds: name and description, pages, the converted form and the source files.
    SEE = "see"
    #: How it came about: its jobs and their logs, where on the server it lies.
    FOLLOW = "follow"
    #: Names, files, conversions, cancel and retry, deletion.
    CHANGE = "change"
    #: To have back what was deleted; of everything else nothing is left to be asked for.
    RESTORE = "restore"


def may(person: Person | None, dataset: Dataset, action: Action) -> bool:
    """Whether `person`, None for somebody without a log-in, may do `action` with `dataset`.

    Where not, it does not exist for them: 404, not 403.
    """
    if (dataset.deleted_at is not None) != (action is Action.RESTORE):
        return False
    if person is not None and dataset.user == person.email:
        return True
    return dataset.public and action is Action.SEE
