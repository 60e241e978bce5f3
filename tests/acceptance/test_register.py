"""Data that stay where they are: registered when complete, converted in place, watched by the command itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from service_site import Site, eventually

from scientistcloud.datasets import catalogue, retiring
from scientistcloud.errors import InvalidParameters, InvalidSettings, InvalidTransition
from scientistcloud.records import Dataset, DatasetStatus
from scientistcloud.uploads.registering import Event, Registrar

ADA = "ada@example.org"


@pytest.fixture(autouse=True)
def no_lease_signal() -> Iterator[None]:
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGIO, before)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "data")
    yield site
    site.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "beamline"
    root.mkdir()
    return root


def a_scan(path: Path, number: int = 3, *, seconds_old: float = 3600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.full((64, 48), number, dtype=np.uint16))
    then = time.time() - seconds_old
    os.utime(path, (then, then))
    return path


def registrar(site: Site, root: Path, **more: Any) -> Registrar:
    given: dict[str, Any] = {"roots": (root,), "user": ADA, "quiet_seconds": 60.0} | more
    return Registrar(site.store, root, **given)


def looked(who: Registrar, *, first: bool = True) -> list[tuple[str, str]]:
    return [(event.what, event.place.name) for event in who.look(first=first)]


def only(site: Site) -> Dataset:
    (dataset,) = site.store.datasets.find(user=ADA)
    return dataset


def files_of(site: Site, dataset: Dataset) -> dict[str, int]:
    return {file.path: file.size_bytes for file in site.store.datasets.files(dataset.uuid)}


def everything(root: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes())
        for path in root.rglob("*")
        if path.is_file()
    }


# -- what appears --------------------------------------------------------------------------------


def test_each_file_and_folder_is_a_data_set_and_nothing_is_copied(site: Site, root: Path) -> None:
    a_scan(root / "single.tif")
    for z in range(3):
        a_scan(root / "scan_01" / "frames" / f"z{z}.tif", z)
    (root / "empty").mkdir()
    (root / ".hidden").mkdir()
    a_scan(root / "coming.tif.part")
    before = everything(root)

    found = looked(registrar(site, root))
    again = looked(registrar(site, root))

    assert found == [("registered", "scan_01"), ("registered", "single.tif")]
    assert again == []
    datasets = {dataset.name: dataset for dataset in site.store.datasets.find(user=ADA)}
    assert set(datasets) == {"scan_01", "single.tif"}
    assert all((each.status, each.forms) == (DatasetStatus.DONE, ()) for each in datasets.values())
    assert set(files_of(site, datasets["scan_01"])) == {f"frames/z{z}.tif" for z in range(3)}
    assert set(files_of(site, datasets["single.tif"])) == {"single.tif"}
    assert everything(root) == before
    assert not any(site.folder(each.uuid).source.exists() for each in datasets.values())


def test_files_appear_when_they_are_quiet(site: Site, root: Path) -> None:
    scan = a_scan(root / "scan.tif", seconds_old=0)
    who = registrar(site, root, quiet_seconds=0.3)
    assert looked(who) == [("waiting", "scan.tif")]
    with scan.open("ab") as file:
        file.write(b"more")

    assert looked(who, first=False) == []  # said once
    eventually(lambda: ("registered", "scan.tif") in looked(who, first=False), "was quiet")

    assert files_of(site, only(site)) == {"scan.tif": scan.stat().st_size}


def test_a_file_that_somebody_has_open_for_writing_is_not_complete(site: Site, root: Path) -> None:
    scan = a_scan(root / "scan.tif")
    who = registrar(site, root, quiet_seconds=0)

    with scan.open("ab"):
        assert looked(who) == [("waiting", "scan.tif")]
    assert looked(who) == [("registered", "scan.tif")]


def test_a_look_at_what_changed_looks_at_nothing_else(site: Site, root: Path) -> None:
    for name in "abc":
        a_scan(root / name / "deep" / "x.tif")
    who = registrar(site, root, quiet_seconds=0.1)
    looked(who)
    a_scan(root / "a" / "deep" / "x.tif", 7, seconds_old=1800)
    a_scan(root / "b" / "deep" / "x.tif", 7, seconds_old=1800)
    a_scan(root / "new" / "x.tif")

    def some() -> list[tuple[str, str]]:
        paths = [root / "a" / "deep" / "x.tif", root / "new", root / ".hidden", root, root.parent / "elsewhere"]
        return [(event.what, event.place.name) for event in who.look_at(paths)]

    assert set(some()) == {("waiting", "a"), ("waiting", "new")}
    found: list[tuple[str, str]] = []

    def both() -> bool:
        found.extend(some())
        return len(found) == 2

    eventually(both, "was quiet")

    assert set(found) == {("changed", "a"), ("registered", "new")}
    (root / "c" / "deep" / "x.tif").unlink()
    (root / "c" / "deep").rmdir()
    (root / "c").rmdir()
    assert [(event.what, event.place.name) for event in who.look_at([root / "c"])] == [("gone", "c")]


def test_what_a_crash_cut_short_is_finished_by_the_next_call(site: Site, root: Path) -> None:
    scan = a_scan(root / "scan.tif")
    catalogue.open_registered(site.store, user=ADA, name="scan.tif", sensor="auto", place=str(scan))

    assert looked(registrar(site, root, convert=True)) == [("registered", "scan.tif")]

    assert (only(site).status, only(site).revision) == (DatasetStatus.CONVERSION_QUEUED, 1)
    assert len(site.queue.list_jobs(dataset_uuid=only(site).uuid)) == 1
    assert set(files_of(site, only(site))) == {"scan.tif"}


def test_what_its_owner_deleted_does_not_come_back(site: Site, root: Path) -> None:
    scan = a_scan(root / "scan.tif")
    looked(registrar(site, root))

    retiring.delete(site.store, only(site).uuid)

    assert looked(registrar(site, root)) == []
    assert scan.exists()


def test_nothing_can_be_added_to_a_registered_data_set(site: Site, root: Path) -> None:
    a_scan(root / "scan.tif")
    looked(registrar(site, root))

    with pytest.raises(InvalidTransition, match="stay where they lie"):
        catalogue.reopen(site.store, only(site).uuid)


# -- where it may be -----------------------------------------------------------------------------


def test_only_what_the_operator_allows_is_registered(site: Site, root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    a_scan(elsewhere / "scan.tif")
    (root / "way").symlink_to(elsewhere)
    (tmp_path / "beamline2").mkdir()

    for place in (elsewhere, root / "way", root / ".." / "elsewhere", tmp_path / "beamline2", Path("/")):
        with pytest.raises(InvalidParameters, match="REGISTER_ROOTS"):
            registrar(site, place, roots=(root,))
    with pytest.raises(InvalidSettings, match="REGISTER_ROOTS"):
        registrar(site, root, roots=())


def test_an_archive_is_refused_with_what_to_do(site: Site, root: Path) -> None:
    with zipfile.ZipFile(root / "scan.zip", "w") as archive:
        archive.writestr("a.tif", b"a")

    (event,) = registrar(site, root, quiet_seconds=0).look(first=True)

    assert (event.what, "unpack it there, or upload it" in event.said) == ("refused", True)
    assert site.store.datasets.find(user=ADA) == []


def test_what_changes_is_looked_at_again_unless_all_of_it_is_converted(site: Site, root: Path) -> None:
    scan = a_scan(root / "scan.tif")
    looked(registrar(site, root, look=True))
    a_scan(scan, 7, seconds_old=1800)
    assert looked(registrar(site, root, look=True)) == [("changed", "scan.tif")]
    before = only(site)
    site.store.datasets.update(before, replace(before, forms=({"token": 1, "path": "x"},)))
    a_scan(scan, 9, seconds_old=900)

    assert looked(registrar(site, root, look=True)) == [("changed", "scan.tif")]

    jobs = [job.idempotency_key for job in site.queue.list_jobs(dataset_uuid=before.uuid)]
    assert jobs == [f"look:{before.uuid}:1", f"look:{before.uuid}:2"]
    assert only(site).status is DatasetStatus.DONE


def test_a_link_that_leads_out_of_the_root_is_refused_with_its_name(site: Site, root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.tif"
    secret.write_text("secret")
    a_scan(root / "evil" / "a.tif")
    (root / "evil" / "b.tif").symlink_to(secret)
    (root / "lone.tif").symlink_to(secret)
    a_scan(root / "shared" / "dark.tif")
    (root / "fine").mkdir()
    (root / "fine" / "dark.tif").symlink_to(root / "shared" / "dark.tif")

    events = {event.place.name: event for event in registrar(site, root).look(first=True)}

    assert events["evil"].what == events["lone.tif"].what == "refused"
    assert "b.tif is a link that leads out" in events["evil"].said
    assert events["fine"].what == events["shared"].what == "registered"
    assert {dataset.name for dataset in site.store.datasets.find(user=ADA)} == {"fine", "shared"}


# -- conversion ----------------------------------------------------------------------------------


def test_a_conversion_reads_where_the_files_lie_and_nowhere_else(site: Site, root: Path, tmp_path: Path) -> None:
    unknown = tmp_path / "other"
    for place in (root / "scan", root / "linked", unknown / "unknown"):
        for z in range(3):
            a_scan(place / f"z{z}.tif", z)
    looked(registrar(site, root, convert=True))
    looked(registrar(site, unknown, roots=(unknown,), convert=True))
    a_scan(tmp_path / "secret.tif")
    (root / "linked" / "later.tif").symlink_to(tmp_path / "secret.tif")
    a_scan(root / "some" / "looked_at.tif", 7)
    looked(registrar(site, root / "some", look=True))
    before = everything(root)
    uuids = {dataset.name: dataset.uuid for dataset in site.store.datasets.find(user=ADA)}

    site.worker(tasks=(), slots=2, REGISTER_ROOTS=root)

    target = site.settled(uuids["scan"], DatasetStatus.DONE)
    assert target.forms[-1]["shape"] == [3, 64, 48]
    assert everything(root) == before
    assert not site.folder(target.uuid).source.exists()
    eventually(lambda: site.target(uuids["looked_at.tif"]).forms, "had a first look")
    first = site.target(uuids["looked_at.tif"])
    assert (first.status, first.forms[-1]["look"], first.wanted) == (DatasetStatus.DONE, True, None)
    assert (site.folder(first.uuid).root / "preview.webp").exists()
    catalogue.want_conversion(site.store, first.uuid, request="click")  # and care keeps that promise
    eventually(lambda: not site.target(first.uuid).forms[-1].get("look"), "was converted")
    # As a look that failed and is retried.
    late = site.queue.create_job(dataset_uuid=first.uuid, job_type="dataset_preview", parameters={})

    def result() -> object:
        job = site.queue.get_job(late)
        return job and job.result

    eventually(result, "ended")
    assert result() == {"looked": False, "reason": "the data set is converted"}
    assert not site.target(first.uuid).forms[-1].get("look")
    assert "leads out" in (site.settled(uuids["linked"], DatasetStatus.CONVERSION_ERROR).error or "")
    assert "REGISTER_ROOTS" in (site.settled(uuids["unknown"], DatasetStatus.CONVERSION_ERROR).error or "")


# -- what changes and goes -----------------------------------------------------------------------


def test_a_file_that_changes_comes_or_goes_is_noticed_and_shown(site: Site, root: Path) -> None:
    for name in "abc":
        a_scan(root / "scan" / f"{name}.tif")
    looked(registrar(site, root))
    a_scan(root / "scan" / "a.tif", 7, seconds_old=1800)
    a_scan(root / "scan" / "d.tif")
    (root / "scan" / "b.tif").unlink()

    events = list(registrar(site, root).look(first=True))

    said = "1 file changed (a.tif); 1 file new (d.tif); 1 file gone (b.tif) since it was registered or converted"
    assert [(event.what, event.said) for event in events] == [("changed", said)]
    dataset = only(site)
    assert (dataset.notice, dataset.revision) == (said, 2)
    assert set(files_of(site, dataset)) == {"a.tif", "c.tif", "d.tif"}
    assert looked(registrar(site, root)) == []


@pytest.mark.long
def test_a_change_is_converted_where_the_rule_says_so_and_then_forgotten(site: Site, root: Path) -> None:
    scan = a_scan(root / "scan.tif")
    looked(registrar(site, root, convert=True))
    site.worker(tasks=(), REGISTER_ROOTS=root)
    first = site.settled(only(site).uuid, DatasetStatus.DONE)
    a_scan(scan, 9, seconds_old=1800)

    looked(registrar(site, root, convert=True))
    eventually(lambda: site.target(first.uuid).forms[-1]["token"] > first.forms[-1]["token"], "was converted again")

    target = site.settled(first.uuid, DatasetStatus.DONE)
    assert target.notice is None
    assert len(site.queue.list_jobs(dataset_uuid=first.uuid)) == 2


def test_a_place_that_is_gone_is_shown_and_what_was_made_of_it_stays(site: Site, root: Path) -> None:
    scan = a_scan(root / "scan.tif")
    looked(registrar(site, root))
    before = only(site)
    site.store.datasets.update(before, replace(before, forms=({"token": 1, "path": "x"},)))
    scan.unlink()

    assert looked(registrar(site, root)) == [("gone", "scan.tif")]
    assert looked(registrar(site, root)) == []

    assert f"{scan} is gone" in (only(site).notice or "")
    assert only(site).forms


# -- the command ---------------------------------------------------------------------------------


@contextmanager
def watching(site: Site, root: Path, *options: str) -> Iterator[list[Event]]:
    """The command itself, and what it has said so far."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scientistcloud", "register", str(root), "--watch", "--json", *options],
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "SCIENTISTCLOUD_DATA_DIR": str(site.root),
            "SCIENTISTCLOUD_REGISTER_ROOTS": str(root),
            "SCIENTISTCLOUD_USER_EMAIL": ADA,
            "PYTHONUNBUFFERED": "1",
        },
    )
    said: list[Event] = []

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            found = json.loads(line)
            said.append(Event(found["event"], Path(found["place"]), found["message"], found["dataset_uuid"]))

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield said
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        thread.join()
        assert process.stdout is not None
        process.stdout.close()


def test_a_watched_folder_is_looked_at_as_things_happen(site: Site, root: Path) -> None:
    a_scan(root / "old.tif")

    # So seldom by itself that only the system can have told of what is found.
    with watching(site, root, "--quiet-seconds", "0.2", "--poll-seconds", "3600", "--convert") as said:
        eventually(lambda: ("registered", "old.tif") in names(said), "found what was there")
        with (root / "new.tif").open("wb") as slow:
            content = a_scan(root / ".other.tif").read_bytes()
            slow.write(content[:100])
            slow.flush()
            eventually(lambda: ("waiting", "new.tif") in names(said), "saw it begin")
            time.sleep(0.4)  # longer than it takes to be quiet: it is still open
            assert ("registered", "new.tif") not in names(said)
            slow.write(content[100:])
        eventually(lambda: ("registered", "new.tif") in names(said), "saw it end")
        (root / "old.tif").unlink()
        eventually(lambda: ("gone", "old.tif") in names(said), "saw it go")

    new = next(each for each in site.store.datasets.find(user=ADA) if each.name == "new.tif")
    assert new.status is DatasetStatus.CONVERSION_QUEUED
    assert files_of(site, new) == {"new.tif": len(content)}


@pytest.mark.long
def test_a_folder_whose_system_tells_nothing_is_looked_at_now_and_then(site: Site, root: Path) -> None:
    with watching(site, root, "--quiet-seconds", "0.1", "--poll-seconds", "0.5") as said:
        a_scan(root / "mounted" / "scan.tif")
        eventually(lambda: ("registered", "mounted") in names(said), "found it")


def names(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.what, event.place.name) for event in list(events)]
