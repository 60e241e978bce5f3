"""SQLite's errors as those of the project: translated once, here."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from scientistcloud.errors import (
    IncompatibleInstallation,
    InvalidSettings,
    NoSpace,
    ScientistCloudError,
    Unavailable,
)


def translated(error: sqlite3.Error, path: Path) -> ScientistCloudError:
    """What `error` means for whoever uses the database at `path`."""
    # The low byte is the kind of error; the rest says more about it.
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Unavailable(f"the database {path} is held locked by another program; close that, then try again")
        case sqlite3.SQLITE_FULL:
            return NoSpace(f"there is no room for the database {path}; free some space on its disk")
        case sqlite3.SQLITE_NOTADB:
            return IncompatibleInstallation(
                f"{path} is not a database; move it away, or name another file in DATABASE_URL"
            )
        case sqlite3.SQLITE_CORRUPT:
            return IncompatibleInstallation(
                f"the database {path} is damaged ({error}); stop all of ScientistCloud and put a copy of it back"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return InvalidSettings(
                f"the database {path} cannot be written ({error}); mend its and its folder's rights"
            )
        case sqlite3.SQLITE_CANTOPEN:
            return Unavailable(f"the database {path} cannot be opened ({error}); is its folder there and yours?")
        case _:
            return Unavailable(f"the database {path} does not answer: {error}")
