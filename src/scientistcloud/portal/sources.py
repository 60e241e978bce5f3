"""Where the source files of a data set lie: in the data folder, or where they were registered."""

from __future__ import annotations

from pathlib import Path

from scientistcloud.errors import InvalidParameters, NotFound, SourceError
from scientistcloud.places import resolved
from scientistcloud.records import Dataset
from scientistcloud.settings import Settings


def source_of(dataset: Dataset, settings: Settings, path: str) -> tuple[Path, tuple[str, ...]]:
    """The folder, and the parts below it, of the source file at `path`, to be opened without following a link.

    Raises `NotFound` for a file that is none of the data set's, or lies where the operator allows it no more.
    """
    if dataset.place is None:
        return settings.folder.dataset(dataset.uuid).source, tuple(path.split("/"))
    try:
        return resolved(Path(dataset.place), path, settings.register_folders)
    except (SourceError, InvalidParameters) as refused:
        raise NotFound(f"there is no file {path!r} here any more; the data set's page says why") from refused
