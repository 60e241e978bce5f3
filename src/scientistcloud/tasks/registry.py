"""Which tasks there are: those that installed packages offer by entry point, the built-in ones too."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from typing import cast

from scientistcloud import plugins
from scientistcloud.errors import BrokenPlugin
from scientistcloud.tasks.contract import Task


def load(references: Sequence[str] | None = None) -> dict[str, Task]:
    """The tasks by `job_type`: those named as ``module:attribute``, or every one that is offered.

    A class is called for its instance. Raises `BrokenPlugin` naming what does not load.
    """
    if references is None:
        offered = plugins.load_all(plugins.TASKS)
    else:
        offered = {reference: _resolve(reference) for reference in references}
    tasks: dict[str, Task] = {}
    for name, what in offered.items():
        task = what() if isinstance(what, type) else what
        if not isinstance(getattr(task, "job_type", None), str) or not callable(getattr(task, "run", None)):
            raise BrokenPlugin(f"the task {name!r} has no job_type or no run(); mend the package that offers it")
        tasks[cast("Task", task).job_type] = cast("Task", task)
    return tasks


def _resolve(reference: str) -> object:
    try:
        return pkgutil.resolve_name(reference)
    except Exception as broken:
        raise BrokenPlugin(f"the task {reference!r} does not load: {broken}") from broken
