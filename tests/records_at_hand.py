"""Records as other clients see them: read and written past everything that ScientistCloud knows of them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pymongo
import pytest


def database_url(request: pytest.FixtureRequest, kind: str) -> str:
    """A new database of that kind, `sqlite` or `mongodb`."""
    if kind == "mongodb":
        url: str = request.getfixturevalue("mongodb_url")
        return url
    folder: Path = request.getfixturevalue("tmp_path")
    return f"sqlite:///{folder}/scientistcloud.db"


def records(url: str, collection: str) -> list[dict[str, Any]]:
    """All records of a collection, or table."""
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(f"SELECT * FROM {collection}")]
    with pymongo.MongoClient[dict[str, Any]](url, tz_aware=True) as client:
        return list(client.get_default_database()[collection].find())


def insert(url: str, collection: str, **fields: Any) -> None:
    """Insert a record with these fields alone; a table gets empty values where it demands some."""
    if url.startswith("sqlite:///"):
        if collection == "visstoredatas":
            fields = {"user": "", "created_at": 1.0, "updated_at": 1.0} | fields
        given = {name: json.dumps(each) if isinstance(each, dict) else each for name, each in fields.items()}
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
            connection.execute(
                f"INSERT INTO {collection} ({', '.join(given)}) VALUES ({', '.join(':' + name for name in given)})",
                given,
            )
        return
    with pymongo.MongoClient[dict[str, Any]](url, tz_aware=True) as client:
        client.get_default_database()[collection].insert_one(dict(fields))


def overwrite(url: str, collection: str, **values: Any) -> None:
    """Give every record of a collection these values."""
    if url.startswith("sqlite:///"):
        given = {name: json.dumps(each) if isinstance(each, dict) else each for name, each in values.items()}
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
            connection.execute(f"UPDATE {collection} SET {', '.join(f'{name} = :{name}' for name in given)}", given)
        return
    with pymongo.MongoClient[dict[str, Any]](url, tz_aware=True) as client:
        found = client.get_default_database()[collection]
        for document in list(found.find()):
            found.replace_one({"_id": document["_id"]}, document | values)
