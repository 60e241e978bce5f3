"""The composition root: the only module that names a concrete database or storage."""

from __future__ import annotations

from pathlib import Path

from scientistcloud.errors import InvalidSettings
from scientistcloud.layout import DataFolder
from scientistcloud.ports import Clock, FormStore, Store


def open_store(url: str, *, clock: Clock | None = None, make: bool = True) -> Store:
    """The database at `url`, made or migrated if need be.

    Parameters
    ----------
    url
        ``sqlite:///PATH``: the embedded database in one file. ``mongodb://HOST/DATABASE``: one on a server, with
        whatever else MongoDB's addresses may say (``mongodb+srv://``, user and password, options).
    clock
        Wall and monotonic time, for tests; None: the system's, or the server's.
    make
        False: only one that is there already; looking must not make an empty one beside the real one.

    Raises
    ------
    InvalidSettings
        No database of that kind is known, its folder cannot be used, or there is none where `make` is False.
    IncompatibleInstallation
        It is no database of ScientistCloud, or of a newer version.
    Unavailable
        It does not answer.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        from scientistcloud.database.sqlite.store import SqliteStore

        path = Path(rest[1:])
        if not make and not path.exists():
            raise InvalidSettings(
                f"there is no database at {path}; set SCIENTISTCLOUD_DATA_DIR to the folder that "
                "`scientistcloud serve` uses"
            )
        return SqliteStore(path, clock=clock)
    if separator and scheme in ("mongodb", "mongodb+srv"):
        from scientistcloud.database.mongo.store import MongoStore

        return MongoStore(url, clock=clock, make=make)
    shown = f"{scheme}://…" if separator else repr(url)  # the rest can hold a password
    raise InvalidSettings(
        f"the database {shown} is not known here; set DATABASE_URL to sqlite:////absolute/path.db or "
        "mongodb://host/database"
    )


def open_forms(data_dir: Path, *, wait_seconds: float = 30) -> FormStore:
    """Where the converted forms lie: the data folder. A guard's lock is waited for `wait_seconds`."""
    from scientistcloud.storage.local import LocalForms

    return LocalForms(DataFolder(data_dir), wait_seconds=wait_seconds)
