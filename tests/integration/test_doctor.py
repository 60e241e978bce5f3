"""`scientistcloud doctor` on installations that are well, and on some that are not."""

from __future__ import annotations

import json
import socket
import sqlite3
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest

from scientistcloud import JobQueueManager, open_store
from scientistcloud.cli import main
from scientistcloud.ports import Store
from scientistcloud.records import Worker
from scientistcloud.service.presence import check_installation
from scientistcloud.settings import read_settings
from scientistcloud.uploads.folder import Limits
from scientistcloud.uploads.processor import UploadProcessor

Found = list[tuple[str, str, str]]
Doctor = Callable[[], Found]


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = open_store(database_url)
    yield store
    store.close()


@pytest.fixture
def doctor(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Doctor:
    """What the command finds (part, state, message); its status agrees."""
    monkeypatch.setenv("SCIENTISTCLOUD_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SCIENTISTCLOUD_DATABASE_URL", database_url)
    monkeypatch.setattr(sys, "argv", ["scientistcloud", "doctor", "--json"])

    def examine() -> Found:
        with pytest.raises(SystemExit) as ended:
            main()
        found = [(each["part"], each["state"], each["message"]) for each in json.loads(capsys.readouterr().out)]
        assert ended.value.code == int(any(state == "wrong" for _, state, _ in found))
        return found

    return examine


def wrong(found: Found) -> list[tuple[str, str]]:
    return [(part, message) for part, state, message in found if state == "wrong"]


def announce(store: Store, worker_id: str, *, seen_seconds_ago: float = 0, **more: Any) -> None:
    now = store.clock.now()
    given: dict[str, Any] = {"job_types": ("dataset_conversion",), "sensors": (), "slots": 2, "host": "lab"} | more
    seen = now - timedelta(seconds=seen_seconds_ago)
    store.workers.announce(Worker(worker_id=worker_id, version="0.1.0", started_at=seen, last_seen=seen, **given))


def test_a_well_installation_has_nothing_wrong(store: Store, doctor: Doctor, tmp_path: Path) -> None:
    check_installation(store, read_settings(data_dir=tmp_path).folder)
    host = "lab" if store.url.startswith("mongodb") else socket.gethostname()
    announce(store, "ada", host=host)

    found = doctor()

    assert wrong(found) == []
    states = {part: state for part, state, _ in found}
    assert states == dict.fromkeys(
        (
            *("data folder", "disk", "converters", "tasks", "database", "installation"),
            *("limits", "uploads", "workers"),
        ),
        "ok",
    )
    assert ("SQLite" if "sqlite" in store.url else "MongoDB") in {part: said for part, _, said in found}["database"]


def test_a_missing_database_is_wrong_and_none_is_made(database_url: str, doctor: Doctor) -> None:
    found = doctor()

    assert [part for part, _ in wrong(found)] == ["database"]
    assert doctor() == found  # looking has made none


def test_a_missing_index_is_named(store: Store, database_url: str, doctor: Doctor) -> None:
    if database_url.startswith("sqlite"):
        with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as connection, connection:
            connection.execute("DROP INDEX visstoredatas_place")
    else:
        with pymongo.MongoClient[dict[str, Any]](database_url) as client:
            datasets = client.get_default_database().visstoredatas
            names = [name for name, each in datasets.index_information().items() if each["key"][0][0] == "place"]
            datasets.drop_index(names[0])

    ((part, message),) = wrong(doctor())

    assert part == "database"
    assert "visstoredatas" in message
    assert "place" in message
    assert "is missing" in message


def test_a_data_folder_of_another_installation_is_wrong(store: Store, doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "installation-id").write_text("another\n")

    ((part, message),) = wrong(doctor())

    assert part == "installation"
    assert "another" in message
    assert store.meta.installation_id() in message


def test_the_limits_of_uploads_are_shown_and_what_waits_under_them(
    store: Store, doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCIENTISTCLOUD_QUOTA_BYTES", "2500000000")
    monkeypatch.setenv("SCIENTISTCLOUD_DISK_RESERVE_BYTES", "0")
    monkeypatch.setenv("SCIENTISTCLOUD_MAX_OPEN_UPLOADS", "12")
    monkeypatch.setenv("SCIENTISTCLOUD_UPLOAD_EXPIRY_DAYS", "2.5")
    limits = Limits(disk_reserve_bytes=0, expiry=timedelta(days=-1))
    UploadProcessor(store, data_dir=tmp_path).open_upload(user="ada", path="a.tif", length_bytes=7_000_000)

    said = {part: (state, message) for part, state, message in doctor()}

    assert said["limits"] == (
        "ok",
        (
            "an upload 11 TB (MAX_UPLOAD_BYTES); a person 2.5 GB (QUOTA_BYTES); 12 open uploads a person "
            "(MAX_OPEN_UPLOADS); kept free 0 bytes (DISK_RESERVE_BYTES); uploads expire after 2.5 days "
            "(UPLOAD_EXPIRY_DAYS)"
        ),
    )
    assert said["uploads"] == ("ok", "1 open, 7 MB to come")
    UploadProcessor(store, data_dir=tmp_path, limits=limits).open_upload(user="ada", path="b.tif", length_bytes=1)
    (expired,) = [message for part, state, message in doctor() if (part, state) == ("uploads", "note")]
    assert "1 have expired" in expired


def test_a_full_disk_is_wrong(store: Store, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIENTISTCLOUD_DISK_RESERVE_BYTES", str(2**60))

    ((part, message),) = wrong(doctor())

    assert part == "disk"
    assert "free some space" in message


def test_a_data_folder_that_is_not_there_is_wrong(
    store: Store, doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIENTISTCLOUD_DATA_DIR", str(tmp_path / "gone"))

    assert [part for part, _ in wrong(doctor())] == ["data folder"]


def test_jobs_that_nobody_can_do_are_wrong_and_a_lost_worker_is_noted(store: Store, doctor: Doctor) -> None:
    JobQueueManager(store).create_job(dataset_uuid=str(uuid.uuid4()), job_type="file_extraction", parameters={})
    announce(store, "gone", seen_seconds_ago=3600)

    found = doctor()

    ((part, message),) = wrong(found)
    assert part == "jobs"
    assert "1 pending of type file_extraction: " in message
    notes = [message for part, state, message in found if (part, state) == ("workers", "note")]
    assert any("gone on lab" in note and "not seen since" in note for note in notes)


def test_a_paused_type_is_noted(store: Store, doctor: Doctor) -> None:
    store.jobs.pause("dataset_conversion")

    assert any(part == "jobs" and "resume dataset_conversion" in message for part, _, message in doctor())


def test_a_damaged_file_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIENTISTCLOUD_DATA_DIR", str(tmp_path))
    path = tmp_path / "scientistcloud.db"
    open_store(f"sqlite:///{path}").close()
    content = bytearray(path.read_bytes())
    content[8192:12288] = bytes(range(256)) * 16
    path.write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["scientistcloud", "doctor"])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 1


def test_a_server_that_does_not_answer_is_said_and_the_rest_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SCIENTISTCLOUD_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SCIENTISTCLOUD_DATABASE_URL", "mongodb://127.0.0.1:1/nobody?timeoutMS=300")
    monkeypatch.setattr(sys, "argv", ["scientistcloud", "doctor"])

    with pytest.raises(SystemExit) as ended:
        main()

    said = capsys.readouterr().out
    assert ended.value.code == 1
    assert "wrong  database" in said
    assert "does not answer" in said
    assert "ok     disk" in said
