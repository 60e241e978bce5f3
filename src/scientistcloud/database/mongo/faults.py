"""The driver's errors as those of the project: translated once, here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson.errors import BSONError
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
    WTimeoutError,
)

from scientistcloud.database.mongo.collection import Taken
from scientistcloud.errors import (
    IncompatibleInstallation,
    InvalidParameters,
    InvalidSettings,
    InvalidTransition,
    NoSpace,
    ScientistCloudError,
    Unavailable,
)

_DUPLICATE = 11000
_REFUSED = {13, 18, 8000}  # Unauthorized, AuthenticationFailed, and what hosted servers say for both
_NO_SPACE = {14031, 12501}  # OutOfDiskSpace; the quota of a hosted server
_NOT_WRITABLE = {189, 10058, 10107, 11600, 11602, 13435, 13436}  # not the primary, or about to be something else
_INDEX_DIFFERS = {85, 86}  # IndexOptionsConflict, IndexKeySpecsConflict
_READ_ONLY = {20, 72, 166}  # IllegalOperation, InvalidOptions, CommandNotSupported …


def translated(error: Exception, place: str) -> ScientistCloudError | Taken:
    """What `error` means for whoever uses the database at `place` (its address without a password)."""
    match error:
        case DuplicateKeyError():
            return Taken(str(error))
        case BulkWriteError(details=details) if _only_taken(details):
            return Taken(str(error))
        case WTimeoutError() | ExecutionTimeout() | WriteConcernError():
            return Unavailable(
                f"the MongoDB server {place} did not confirm in time; is a majority of its members running?"
            )
        case OperationFailure(code=code) if code in _NOT_WRITABLE:
            return Unavailable(f"the MongoDB server {place} takes no writes just now: it is not the primary")
        case OperationFailure(code=code) if code in _REFUSED:
            return InvalidSettings(
                f"the MongoDB server {place} refuses us ({_said(error)}); mend user, password or rights in "
                "DATABASE_URL"
            )
        case OperationFailure(code=code) if code in _NO_SPACE or "no space" in _said(error).lower():
            return NoSpace(f"the MongoDB server {place} is out of disk; free some space there")
        case OperationFailure(code=code) if code in _INDEX_DIFFERS:
            return IncompatibleInstallation(
                f"the database {place} has an index that differs from ours ({_said(error)}); drop that index, "
                "then start again"
            )
        case OperationFailure(code=code) if code in _READ_ONLY or "read-only" in _said(error).lower():
            return InvalidSettings(
                f"the MongoDB server {place} does not do what is asked of it ({_said(error)}); ScientistCloud "
                "needs one that can be written"
            )
        case AutoReconnect() | ConnectionFailure():
            return Unavailable(f"the MongoDB server {place} does not answer ({_said(error)}); is it running?")
        case ConfigurationError():
            return InvalidSettings(f"DATABASE_URL cannot be used: {_said(error)}")
        case DocumentTooLarge() | BSONError() | OverflowError():
            return InvalidParameters(
                f"MongoDB cannot keep this: {_said(error)}; use smaller values, whole numbers below 2**63, and "
                "keys without NUL"
            )
        case InvalidOperation():
            return InvalidTransition(f"the database {place} was closed here; open it again")
        case _:
            return Unavailable(f"the MongoDB server {place} did not do as asked: {_said(error)}")


FAULTS = (PyMongoError, BSONError, OverflowError)
"""What `translated` is for."""


def _only_taken(details: Mapping[str, Any]) -> bool:
    codes = {each.get("code") for each in details.get("writeErrors", ())}
    return codes == {_DUPLICATE} and not details.get("writeConcernErrors")


def _said(error: Exception) -> str:
    """The driver's words in one line; it appends whole descriptions of the topology."""
    text = " ".join(str(error).split())
    for noise in (", Timeout:", ", full error:", " (configured timeouts"):
        text = text.partition(noise)[0]
    return text[:300] or type(error).__name__
