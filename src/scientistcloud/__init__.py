"""ScientistCloud: scientific data sets in, a form that a browser can fly through out, by jobs on a UUID.

The names below are all that a program needs; each is imported when it is first used, so that
``import scientistcloud`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scientistcloud.assembly import open_store
    from scientistcloud.jobs.queue import JobQueueManager
    from scientistcloud.service.background import BackgroundService
    from scientistcloud.uploads.processor import UploadProcessor

__version__ = "0.1.0"
__all__ = ["BackgroundService", "JobQueueManager", "UploadProcessor", "__version__", "open_store"]

_HOME = {
    "BackgroundService": "scientistcloud.service.background",
    "JobQueueManager": "scientistcloud.jobs.queue",
    "UploadProcessor": "scientistcloud.uploads.processor",
    "open_store": "scientistcloud.assembly",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
