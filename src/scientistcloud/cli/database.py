"""The database as commands on its own machine open it."""

from __future__ import annotations

from pathlib import Path

from scientistcloud.assembly import open_store
from scientistcloud.errors import InvalidSettings
from scientistcloud.ports import Store
from scientistcloud.settings import Settings


def open_existing(settings: Settings) -> Store:
    """The database, which has to be there: looking must not make an empty one beside the real one."""
    url = settings.store_url
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        raise InvalidSettings(
            f"there is no database at {url.removeprefix('sqlite:///')}; set SCIENTISTCLOUD_DATA_DIR to the folder "
            "that `scientistcloud serve` uses"
        )
    return open_store(url)
