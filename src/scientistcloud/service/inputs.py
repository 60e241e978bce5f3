"""What an attempt may read: its source, and what opens a remote one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scientistcloud.datasets.lifecycle import DELETION
from scientistcloud.errors import InvalidParameters, UnreadableSource
from scientistcloud.layout import DataFolder
from scientistcloud.places import state_of
from scientistcloud.records import ConversionTarget, Job


def source_of(
    job: Job, target: ConversionTarget | None, *, folder: DataFolder, register_roots: Sequence[Path]
) -> Path:
    """Where to read: what `input_path` names, else the source files. Both paths must be the data set's own.

    Those of a registered data set are its place, under a folder that the operator allows. Raises
    `UnreadableSource`, `InvalidParameters`.
    """
    own = folder.dataset(job.dataset_uuid)
    own_source, parameters = own.source, dict[str, Any](job.parameters)
    if target is not None and target.place is not None and job.job_type != DELETION:
        own_source, parameters = Path(target.place), {**parameters, "input_path": None}
        if not state_of(own_source, register_roots):
            raise UnreadableSource(f"{own_source} is gone, or holds no file; put it back, then convert again")
    paths = {
        name: _inside(own.root, name, parameters[name], folder.root)
        for name in ("input_path", "output_path")
        if parameters.get(name) is not None
    }
    source = paths.get("input_path", own_source)
    if "input_path" in paths and not source.exists():
        raise UnreadableSource(f"{parameters['input_path']} is not there any more; upload the files again")
    return source


def _inside(own: Path, name: str, given: object, root: Path) -> Path:
    try:
        path = Path(os.path.realpath(root / given))  # type: ignore[operator]
    except (TypeError, ValueError):
        raise InvalidParameters(f"the job's {name} is no path: {str(given)[:200]!r}; create it anew") from None
    if not path.is_relative_to(os.path.realpath(own)):
        raise InvalidParameters(
            f"the job's {name} {str(given)[:200]!r} leads out of its data set's folder; create it anew"
        )
    return path


def credential_of(job: Job) -> str | None:
    """The reference of what opens the remote source; None where the job names none."""
    reference = job.parameters.get("credential")
    return reference if isinstance(reference, str) else None
