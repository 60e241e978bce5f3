"""The database file: made, migrated, refused; what it says when it cannot be used."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from scientistcloud import JobQueueManager, open_store
from scientistcloud.database.sqlite import completions, connection, locking, migrations
from scientistcloud.database.sqlite import jobs as sqlite_jobs
from scientistcloud.database.sqlite.connection import Database
from scientistcloud.errors import (
    IncompatibleInstallation,
    InvalidSettings,
    InvalidTransition,
    LeaseLost,
    NoSpace,
    Unavailable,
)
from scientistcloud.ports import Store
from scientistcloud.records import JobStatus, Progress
from scientistcloud.testing.dataset_store import kept

# Indexes on a condition that hold only what is to be found, so reading all of them reads nothing in vain.
_NARROW = ("jobs_foreign", "jobs_running", "visstoredatas_promised", "visstoredatas_public")
HEART = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "scientistcloud.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{path}")
    yield store
    store.close()


def create(store: Store, dataset_uuid: str = HEART) -> str:
    return JobQueueManager(store).create_job(
        dataset_uuid=dataset_uuid, job_type="dataset_conversion", parameters={}
    )


def alter(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def list_jobs_of(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    try:
        JobQueueManager(store).list_jobs()
    finally:
        store.close()


# -- opening -------------------------------------------------------------------------------------


def test_a_new_database_is_made_with_its_folder(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")

    assert path.is_file()
    assert store.url == f"sqlite:///{path}"
    store.close()


def test_an_empty_file_becomes_a_database(path: Path) -> None:
    path.parent.mkdir()
    path.touch()

    open_store(f"sqlite:///{path}").close()

    assert path.stat().st_size > 0


def test_what_was_written_is_there_when_it_is_opened_again(path: Path) -> None:
    first = open_store(f"sqlite:///{path}")
    job_id, installation = create(first), first.meta.installation_id()
    first.close()

    again = open_store(f"sqlite:///{path}")

    assert again.jobs.get(job_id) is not None
    assert again.meta.installation_id() == installation
    again.close()


def test_two_stores_of_one_file_see_each_other_s_commits(path: Path, store: Store) -> None:
    other = open_store(f"sqlite:///{path}")
    before = other.change_mark()

    job_id = create(store)

    assert other.change_mark() != before
    assert other.jobs.get(job_id) is not None
    other.close()


@pytest.mark.parametrize("content", [b"GIF89a, and so on", b"SQLite format 3\0 and then nonsense" * 100])
def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)

    with pytest.raises(IncompatibleInstallation, match=r"not a database|damaged"):
        open_store(f"sqlite:///{path}")

    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_another_program_s_database_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    alter(path, "CREATE TABLE holidays (day TEXT)")
    before = path.read_bytes()

    with pytest.raises(IncompatibleInstallation, match="another program"):
        open_store(f"sqlite:///{path}")

    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_newer_database_is_refused(path: Path) -> None:
    open_store(f"sqlite:///{path}").close()
    alter(path, "PRAGMA user_version = 999")

    with pytest.raises(IncompatibleInstallation, match="newer ScientistCloud"):
        open_store(f"sqlite:///{path}")


def test_an_older_database_is_copied_aside_and_brought_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_store(f"sqlite:///{path}")
    job_id = create(first)
    first.close()
    steps = (*migrations.MIGRATIONS, ("CREATE TABLE shelves (name TEXT)", "INSERT INTO shelves VALUES ('top')"))

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrations.migrate(connection, path, migrations=steps)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (shelf,) = connection.execute("SELECT name FROM shelves").fetchone()

    before = len(migrations.MIGRATIONS)
    assert (version, shelf) == (before + 1, "top")
    with closing(sqlite3.connect(f"{path}.version-{before}")) as copy:
        assert copy.execute("SELECT job_id FROM jobs").fetchall() == [(job_id,)]
        assert copy.execute("PRAGMA user_version").fetchone() == (before,)


def test_a_database_of_the_first_shape_keeps_its_data_sets_and_files(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrations.migrate(connection, path, migrations=migrations.MIGRATIONS[:1])
        connection.execute(
            "INSERT INTO visstoredatas (uuid, user, name, sensor, status, created_at, updated_at) "
            "VALUES ('old', 'ada@example.org', 'heart', 'TIFF', 'done', 1, 1)"
        )
        connection.execute("INSERT INTO files VALUES ('old', 'a.tif', 3, NULL)")

    store = open_store(f"sqlite:///{path}")
    dataset = store.datasets.get("old")
    files = store.datasets.files("old")
    store.close()

    assert dataset is not None
    assert (dataset.name, dataset.place, dataset.notice) == ("heart", None, None)
    assert [(file.path, file.modified_ns) for file in files] == [("a.tif", None)]


def test_a_migration_that_fails_leaves_the_version_before_it(path: Path) -> None:
    open_store(f"sqlite:///{path}").close()
    steps = (*migrations.MIGRATIONS, ("CREATE TABLE shelves (name TEXT)", "nonsense"))

    connection = sqlite3.connect(path, isolation_level=None)
    with closing(connection), pytest.raises(sqlite3.OperationalError):
        migrations.migrate(connection, path, migrations=steps)

    open_store(f"sqlite:///{path}").close()


@pytest.mark.parametrize("place", ["/proc/nowhere/scientistcloud.db", "/dev/null/scientistcloud.db"])
def test_a_folder_that_cannot_be_made_is_named(place: str) -> None:
    with pytest.raises(InvalidSettings, match=f"{Path(place).parent}.*DATABASE_URL"):
        open_store(f"sqlite:///{place}")


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="is a folder"):
        open_store(f"sqlite:///{tmp_path}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(InvalidSettings, match="cannot be written"):
        open_store(f"sqlite:///{tmp_path}/scientistcloud.db")


@pytest.mark.parametrize("url", ["mysql://ada:secret@host/db", "sqlite://relative.db", "nonsense", "sqlite:///"])
def test_an_address_that_is_not_known_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidSettings, match="DATABASE_URL") as refused:
        open_store(url)
    assert "secret" not in str(refused.value)


# -- using ---------------------------------------------------------------------------------------


def test_a_database_held_by_another_program_is_unavailable_and_not_empty(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(store)
    impatient = Database(path)
    impatient._writer.execute("PRAGMA busy_timeout = 50")

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="held locked by another program"), impatient.write():
            pass
        other.execute("ROLLBACK")

    with impatient.write():
        pass
    impatient.close()


def test_creators_that_wait_in_vain_all_hear_who_holds_them_up(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "PATIENCE_SECONDS", 0.3)
    holder = Database(path)
    heard: list[str] = []

    def try_to_create() -> None:
        try:
            create(store)
        except Unavailable as refused:
            heard.append(str(refused))

    threads = [threading.Thread(target=try_to_create) for _ in range(4)]
    with holder.write():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    assert len(heard) == 4
    assert all(f"process {os.getpid()} " in line for line in heard)
    create(store)
    holder.close()


def test_creators_that_come_together_share_one_way_to_the_disk(path: Path, store: Store) -> None:
    other = Database(path)
    threads = [threading.Thread(target=create, args=[store]) for _ in range(8)]
    creations = store.jobs._creations  # type: ignore[attr-defined]  # past the port, to see who waits

    with store.trace() as sent:
        with other.write():
            for thread in threads:
                thread.start()
            deadline = time.monotonic() + 4  # they have patience for five
            while len(creations._waiting) < len(threads) and time.monotonic() < deadline:
                time.sleep(0.005)
        for thread in threads:
            thread.join(60)
    other.close()

    assert sent.count("COMMIT") == 1
    assert len(store.jobs.find()) == len(threads)


def test_a_line_among_very_many_moves_on_after_a_few_rounds_of_care(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_jobs, "_LINES_AT_A_LOOK", 3)
    uuids = sorted(str(uuid.uuid4()) for _ in range(10))
    for dataset_uuid in uuids:
        create(store, dataset_uuid)
        create(store, dataset_uuid)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM jobs WHERE head IN (?, ?)", (uuids[0], uuids[8]))

    touched = [store.jobs.recover() for _ in range(4)]

    assert sum(touched) == 2
    assert len(store.jobs.claimable()) == len(uuids)


def test_a_line_whose_head_another_client_deleted_moves_on(path: Path, store: Store) -> None:
    head, second = create(store), create(store)
    alter(path, f"DELETE FROM jobs WHERE job_id = '{head}'")
    queue = JobQueueManager(store)
    assert queue.get_next_job("ada") is None

    store.jobs.recover()

    job = queue.get_next_job("ada")
    assert job is not None
    assert job.job_id == second


def test_what_another_client_finished_is_adopted_as_finished(path: Path, store: Store) -> None:
    alter(
        path,
        "INSERT INTO jobs (job_id, dataset_uuid, job_type, status, parameters) "
        f"VALUES ('theirs', '{HEART}', 'dataset_conversion', 'completed', '{{}}')",
    )

    store.jobs.adopt()

    job = store.jobs.get("theirs")
    assert job is not None
    assert (job.status, job.head) == ("completed", None)
    assert JobQueueManager(store).get_next_job("ada") is None


def test_a_damaged_database_says_so(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    for _ in range(50):
        create(store)
    store.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))

    with pytest.raises(IncompatibleInstallation, match="damaged"):
        list_jobs_of(path)


def test_a_full_disk_is_said_and_nothing_is_half_written(path: Path, store: Store) -> None:
    create(store)
    big = {"dataset_uuid": HEART, "job_type": "dataset_conversion", "parameters": {"a": "x" * 900_000}}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores SIGXFSZ, so what goes beyond the limit is an error of the write.
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, hard))
    try:
        with pytest.raises((NoSpace, Unavailable), match=str(path)):
            JobQueueManager(store).create_jobs([big] * 8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert len(JobQueueManager(store).list_jobs()) == 1
    create(store)
    assert len(JobQueueManager(store).list_jobs()) == 2


@pytest.mark.parametrize("meanwhile", ["nothing", "a heartbeat", "cancel asked", "lease lost", "completed already"])
def test_a_completion_that_was_decided_before_the_lock_holds_only_if_nothing_came_between(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    queue, other = JobQueueManager(store), open_store(f"sqlite:///{path}")
    first, second = (
        queue.create_job(dataset_uuid=HEART, job_type="dataset_conversion", parameters={}) for _ in range(2)
    )
    job = queue.get_next_job("ada")
    assert job is not None

    def decide(*seen: Any) -> Any:
        decided = completions.decide(*seen)
        assert list(decided) == [first]
        monkeypatch.setattr(sqlite_jobs, "decide", completions.decide)  # the other one's are undisturbed
        match meanwhile:
            case "a heartbeat":
                other.jobs.heartbeat(job, progress=Progress(fraction=0.5))
            case "cancel asked":
                other.jobs.cancel(first)
            case "lease lost":
                other.jobs.recover(dead=["ada"])
            case "completed already":
                other.jobs.complete(job, result={"said": "first"})
        return decided

    monkeypatch.setattr(sqlite_jobs, "decide", decide)

    if meanwhile == "lease lost":
        with pytest.raises(LeaseLost):
            queue.complete_job(job)
        assert [job.status for job in queue.list_jobs()] == ["pending", "pending"]
    else:
        queue.complete_job(job, {"said": "second"})
        ended, following = queue.list_jobs()
        assert ended.status is JobStatus.COMPLETED
        assert ended.result == {"said": "first" if meanwhile == "completed already" else "second"}
        assert [attempt.outcome for attempt in ended.history] == ["completed"]
        assert (following.job_id, following.head) == (second, HEART)
    other.close()


def test_what_the_disk_did_not_take_is_not_answered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = JobQueueManager(store)
    new: dict[str, Any] = {"dataset_uuid": str(uuid.uuid4()), "job_type": "dataset_conversion", "parameters": {}}
    queue.create_jobs([new, new])
    job = queue.get_next_job("w")
    assert job is not None

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(connection, "_sync", broken)

    for call in (
        lambda: queue.create_job(**new),
        lambda: queue.complete_job(job),
        lambda: queue.complete_job(job),  # said again, although it is written: no answer before the disk has it
        lambda: queue.cancel_job(queue.list_jobs()[1].job_id),
    ):
        with pytest.raises(Unavailable, match="disk"):
            call()


def test_threads_share_the_sync_that_begins_after_their_commits(
    path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, running, disk = Database(path), threading.Event(), threading.Event()
    syncs = []

    def slow(log: int) -> None:
        syncs.append(log)
        running.set()
        disk.wait(60)

    monkeypatch.setattr(connection, "_sync", slow)
    threads = [threading.Thread(target=database.make_durable) for _ in range(8)]
    threads[0].start()
    assert running.wait(60)
    for thread in threads[1:]:
        thread.start()
    deadline = time.monotonic() + 60
    while repr(database._tickets) != f"count({len(threads) + 2})" and time.monotonic() < deadline:
        time.sleep(0.001)  # until each has drawn

    disk.set()
    for thread in threads:
        thread.join(60)

    assert len(syncs) == 2  # the one that ran already covers none of those that came during it
    database.close()


def test_the_log_that_is_made_durable_is_the_one_in_use(path: Path, store: Store) -> None:
    other = open_store(f"sqlite:///{path}")
    other.jobs.recover()
    other.close()  # the last connection of a database removes its log
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    synced = [os.fstat(descriptor) for descriptor in _descriptors_of(f"{path}-wal")]

    assert synced
    assert {file.st_nlink for file in synced} == {1}
    assert store.jobs.find() == []


def test_a_second_store_of_this_process_may_be_closed_without_the_first_losing_its_hold(
    path: Path, store: Store
) -> None:
    open_store(f"sqlite:///{path}").close()

    # Who believes to be the last that has the database open removes its log.
    program = (
        f"import sqlite3; base = sqlite3.connect({str(path)!r}); base.execute('SELECT 1 FROM jobs'); base.close()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

    assert Path(f"{path}-wal").exists()


def _descriptors_of(path: str) -> list[int]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if str(entry.readlink()).removesuffix(" (deleted)") == path:
                found.append(int(entry.name))
    return found


def test_a_closed_store_says_that_it_is_closed(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    store.close()
    store.close()

    with pytest.raises(InvalidTransition, match="closed here"):
        store.jobs.stats()
    with pytest.raises(InvalidTransition, match="closed here"):
        create(store)


def _use_in_child(store: Store, path: Path, said: multiprocessing.SimpleQueue[str]) -> None:
    try:
        store.jobs.stats()
        said.put("it answered")
    except InvalidTransition as refused:
        said.put(str(refused))
    own = open_store(f"sqlite:///{path}")
    said.put(create(own))
    own.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_refused_the_parent_s_store_and_opens_its_own(path: Path, store: Store) -> None:
    context = multiprocessing.get_context("fork")
    said = context.SimpleQueue()

    child = context.Process(target=_use_in_child, args=(store, path, said))
    child.start()
    refusal, job_id = said.get(), said.get()
    child.join(30)

    assert "before this process was forked" in refusal
    assert store.jobs.get(job_id) is not None
    assert child.exitcode == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_forked_in_the_middle_of_a_write_does_not_keep_the_lock(path: Path, store: Store) -> None:
    context = multiprocessing.get_context("fork")
    done = context.Event()
    database = Database(path)

    with database.write():
        child = context.Process(target=done.wait, args=(30,))
        child.start()
    create(store)  # would wait for the lock in vain

    done.set()
    child.join(30)
    database.close()


def test_many_threads_may_read_and_write_at_once(store: Store) -> None:
    queue = JobQueueManager(store)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                dataset_uuid = str(uuid.uuid4())
                queue.create_job(dataset_uuid=dataset_uuid, job_type="dataset_conversion", parameters={})
                assert len(queue.list_jobs(dataset_uuid=dataset_uuid)) == 1
        except BaseException as error:  # noqa: BLE001  # raised again in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert errors == []
    assert queue.stats().by_status["pending"] == 100


# -- plans ---------------------------------------------------------------------------------------


def assert_found_by_index(path: Path, seen: list[str], *, least: int = 6) -> None:
    """None of the statements reads all jobs or data sets, nor sorts them: it costs the same with a million."""
    with closing(sqlite3.connect(path)) as connection:
        plans = {
            statement: [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
            for statement in seen
            if statement.startswith(("SELECT", "UPDATE", "DELETE", "INSERT"))
        }
    assert len(plans) >= least
    for statement, plan in plans.items():
        whole = [
            step
            for step in plan
            if step.startswith(("SCAN jobs", "SCAN visstoredatas")) and not any(name in step for name in _NARROW)
        ]
        assert whole == [], statement
        assert not any("TEMP B-TREE FOR ORDER BY" in step for step in plan), statement


def test_no_statement_of_care_reads_the_whole_table(path: Path, store: Store) -> None:
    for _ in range(2):
        create(store)
    job = JobQueueManager(store).get_next_job("ada")
    assert job is not None
    with store.trace() as seen:
        store.jobs.adopt()
        store.jobs.recover(dead=["ada"])
        store.jobs.changed_since(store.clock.now())
        store.jobs.paused()
        store.targets.promised()
        store.workers.all()
        store.meta.hold("care", "ada", seconds=1)

    assert_found_by_index(path, seen)


def test_no_statement_of_the_public_list_reads_what_is_private_nor_sorts(path: Path, store: Store) -> None:
    last = kept(store, public=True, size_bytes=1)
    with store.trace() as seen:
        store.datasets.find_public(after=last.uuid)
        store.datasets.find_public(sensor="TIFF", after=last.uuid)
        store.datasets.public_sensors()

    assert_found_by_index(path, seen, least=4)


def test_no_statement_of_a_claim_reads_the_whole_table(path: Path, store: Store) -> None:
    queue = JobQueueManager(store)
    with store.trace() as seen:
        for _ in range(3):
            create(store)
        job = queue.get_next_job("ada")
        assert job is not None
        queue.heartbeat(job)
        following = queue.complete_job(job, claim_next=True)
        assert following is not None
        queue.fail_job(following, "again")
        queue.get_next_job("ada", wait_seconds=0.01)
        store.jobs.line(HEART)
        store.jobs.current([HEART])

    assert_found_by_index(path, seen)
