"""What a driver's error means for people: each kind once."""

from __future__ import annotations

import pytest
from bson.errors import InvalidDocument
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    DocumentTooLarge,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WTimeoutError,
)

from scientistcloud.database.mongo.collection import Taken
from scientistcloud.database.mongo.faults import translated
from scientistcloud.errors import (
    IncompatibleInstallation,
    InvalidParameters,
    InvalidSettings,
    InvalidTransition,
    NoSpace,
    Unavailable,
)

PLACE = "db.lab:27017/scientistcloud"
TWICE = {"writeErrors": [{"index": 0, "code": 11000}], "writeConcernErrors": []}
TWICE_AND_MORE = {"writeErrors": [{"index": 0, "code": 11000}, {"index": 1, "code": 2}], "writeConcernErrors": []}


@pytest.mark.parametrize(
    ("error", "meaning", "words"),
    [
        (
            ServerSelectionTimeoutError("No servers yet, Timeout: 5s, Topology …"),
            Unavailable,
            "is it running",
        ),
        (NetworkTimeout("timed out"), Unavailable, "does not answer"),
        (AutoReconnect("connection closed"), Unavailable, "does not answer"),
        (NotPrimaryError("not primary", {"code": 10107}), Unavailable, "db.lab"),
        (OperationFailure("not primary", 10107), Unavailable, "not the primary"),
        (OperationFailure("node is recovering", 13436), Unavailable, "not the primary"),
        (ExecutionTimeout("operation exceeded time limit", 50), Unavailable, "did not confirm in time"),
        (WTimeoutError("waiting for replication timed out", 64), Unavailable, "majority"),
        (OperationFailure("Authentication failed.", 18), InvalidSettings, "user, password or rights"),
        (OperationFailure("not authorized on db to execute command", 13), InvalidSettings, "rights"),
        (OperationFailure("Cannot write: database is in read-only mode", 20), InvalidSettings, "can be written"),
        (OperationFailure("No space left on device", 14031), NoSpace, "out of disk"),
        (OperationFailure("an index of another shape", 86), IncompatibleInstallation, "drop that index"),
        (OperationFailure("something new", 9999), Unavailable, "something new"),
        (ConfigurationError("Unknown option tsl"), InvalidSettings, "DATABASE_URL"),
        (DocumentTooLarge("over 16 MB"), InvalidParameters, "smaller"),
        (InvalidDocument("cannot encode object"), InvalidParameters, "cannot keep"),
        (OverflowError("MongoDB can only handle up to 8-byte ints"), InvalidParameters, "2\\*\\*63"),
        (InvalidOperation("Cannot use MongoClient after close"), InvalidTransition, "open it again"),
        (DuplicateKeyError("E11000", 11000), Taken, "E11000"),
        (BulkWriteError(TWICE), Taken, "batch"),
        (BulkWriteError(TWICE_AND_MORE), Unavailable, "did not do as asked"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_error_says_what_it_means_in_one_line(error: Exception, meaning: type[Exception], words: str) -> None:
    said = translated(error, PLACE)

    assert type(said) is meaning
    with pytest.raises(meaning, match=words):
        raise said
    assert "\n" not in str(said)
    assert "Topology" not in str(said)
