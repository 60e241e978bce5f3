"""The database as commands beside portal and workers open it."""

from __future__ import annotations

from scientistcloud.assembly import open_store
from scientistcloud.ports import Store
from scientistcloud.settings import Settings


def open_existing(settings: Settings) -> Store:
    """The database, which has to be there: looking must not make an empty one beside the real one."""
    return open_database(settings, make=False)


def open_database(settings: Settings, *, make: bool = True) -> Store:
    """The database; what is created in it wakes the workers of this machine at once."""
    store = open_store(settings.store_url, make=make)
    store.share_bell(settings.folder.bell)
    return store
