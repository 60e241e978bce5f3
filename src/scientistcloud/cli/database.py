"""The database as commands on its own machine open it."""

from __future__ import annotations

from scientistcloud.assembly import open_store
from scientistcloud.ports import Store
from scientistcloud.settings import Settings


def open_existing(settings: Settings) -> Store:
    """The database, which has to be there: looking must not make an empty one beside the real one."""
    store = open_store(settings.store_url, make=False)
    store.share_bell(settings.folder.bell)
    return store
