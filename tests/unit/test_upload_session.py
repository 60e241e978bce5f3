"""One upload's folder: what is durable, what is cut off, and who may write."""

from __future__ import annotations

import fcntl
import hashlib
import json
import tempfile
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scientistcloud.errors import NoSpace, NotFound, Stale, TooLarge, TooMany, Unavailable
from scientistcloud.layout import DataFolder
from scientistcloud.uploads.folder import Limits, UploadsFolder
from scientistcloud.uploads.record import Upload

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.time = NOON

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def uploads(tmp_path: Path, clock: Clock) -> UploadsFolder:
    return UploadsFolder(DataFolder(tmp_path), clock=clock, limits=Limits(disk_reserve_bytes=0))


def opened(uploads: UploadsFolder, length: int = 10, *, user: str = "ada", path: str = "a.tif") -> Upload:
    return uploads.create(
        dataset_uuid="d", user=user, path=path, length_bytes=length, metadata="filename YQ==", closes=True
    )


def known(uploads: UploadsFolder, upload: Upload) -> Upload:
    found = uploads.get(upload.upload_id)
    assert found is not None
    return found


def content(tmp_path: Path, upload: Upload) -> bytes:
    return (tmp_path / "uploads" / upload.upload_id / "data").read_bytes()


def test_an_upload_is_known_as_it_was_opened(uploads: UploadsFolder) -> None:
    upload = opened(uploads)

    assert known(uploads, upload) == upload
    assert (upload.offset_bytes, upload.complete, upload.expires_at) == (0, False, NOON + timedelta(days=7))


def test_only_a_checkpoint_moves_the_offset(uploads: UploadsFolder) -> None:
    upload = opened(uploads)
    writing = uploads.write(upload.upload_id)

    writing.write([b"0123", b"45"])

    assert known(uploads, upload).offset_bytes == 0
    writing.checkpoint()
    assert known(uploads, upload).offset_bytes == 6
    writing.close()


def test_what_lies_beyond_the_durable_offset_is_cut_off_before_the_next_byte(
    uploads: UploadsFolder, tmp_path: Path
) -> None:
    upload = opened(uploads)
    writing = uploads.write(upload.upload_id)
    writing.write([b"0123"])
    writing.checkpoint()
    writing.write([b"XXXXXX"])  # and here its process dies
    writing.close()
    assert content(tmp_path, upload) == b"0123XXXXXX"

    again = uploads.write(upload.upload_id)

    assert content(tmp_path, upload) == b"0123"
    again.write([b"45"])
    again.checkpoint()
    again.close()
    assert content(tmp_path, upload) == b"012345"


def test_the_newest_writer_wins_and_the_older_one_writes_nothing_more(
    uploads: UploadsFolder, tmp_path: Path
) -> None:
    upload = opened(uploads)
    older = uploads.write(upload.upload_id)
    older.write([b"XXXX"])

    newer = uploads.write(upload.upload_id)
    newer.write([b"0123456789"])
    for attempt in (lambda: older.write([b"YYYY"]), older.checkpoint, older.require_mine):
        with pytest.raises(Stale, match="newer request"):
            attempt()
    newer.checkpoint()

    assert content(tmp_path, upload) == b"0123456789"
    assert known(uploads, upload).complete
    older.close()
    newer.close()


def test_a_checkpoint_beside_a_write_promises_no_byte_of_it(uploads: UploadsFolder, tmp_path: Path) -> None:
    upload = opened(uploads, 64 * 2**20)
    writing = uploads.write(upload.upload_id)
    block = bytes(2**20)
    promised: list[tuple[int, int]] = []

    def checkpoints() -> None:
        for _ in range(30):
            offset_bytes = writing.checkpoint().offset_bytes
            promised.append((offset_bytes, (tmp_path / "uploads" / upload.upload_id / "data").stat().st_size))

    beside = threading.Thread(target=checkpoints)
    beside.start()
    for _ in range(64):
        writing.write([block])
    beside.join(60)
    done = writing.checkpoint()
    writing.close()

    assert len(promised) == 30
    assert all(offset_bytes <= size and offset_bytes % len(block) == 0 for offset_bytes, size in promised)
    assert done.sha256 == hashlib.sha256(bytes(64 * 2**20)).hexdigest()


def test_the_digest_goes_on_from_one_request_to_the_next(uploads: UploadsFolder) -> None:
    upload = opened(uploads)
    for part in (b"0123", b"456789"):
        writing = uploads.write(upload.upload_id)
        writing.write([part])
        writing.checkpoint()
        writing.close()

    assert known(uploads, upload).sha256 == hashlib.sha256(b"0123456789").hexdigest()


def test_a_digest_that_a_restart_lost_is_left_open_not_guessed(
    uploads: UploadsFolder, tmp_path: Path, clock: Clock
) -> None:
    upload = opened(uploads)
    writing = uploads.write(upload.upload_id)
    writing.write([b"0123"])
    writing.checkpoint()
    writing.close()

    restarted = UploadsFolder(DataFolder(tmp_path), clock=clock, limits=Limits(disk_reserve_bytes=0))
    writing = restarted.write(upload.upload_id)
    writing.write([b"456789"])
    done = writing.checkpoint()
    writing.close()

    assert done.complete
    assert done.sha256 is None


def test_hundreds_of_small_chunks_are_written_in_order(uploads: UploadsFolder, tmp_path: Path) -> None:
    upload = opened(uploads, 5000)
    writing = uploads.write(upload.upload_id)

    writing.write([bytes([n % 251]) for n in range(5000)])
    done = writing.checkpoint()
    writing.close()

    assert content(tmp_path, upload) == bytes(n % 251 for n in range(5000))
    assert done.complete


def test_a_process_that_stopped_inside_a_block_gives_the_others_an_answer(
    uploads: UploadsFolder, tmp_path: Path
) -> None:
    upload = opened(uploads)
    with (tmp_path / "uploads" / upload.upload_id / "writer").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        with (
            pytest.raises(Unavailable, match="does not go on; try again"),
            uploads.held(upload.upload_id, seconds=0.05),
        ):
            pass


def test_a_checkpoint_slides_the_expiry(uploads: UploadsFolder, clock: Clock) -> None:
    upload = opened(uploads)
    clock.time += timedelta(days=6)
    writing = uploads.write(upload.upload_id)
    writing.write([b"0"])
    writing.checkpoint()
    writing.close()

    assert known(uploads, upload).expires_at == NOON + timedelta(days=13)


def test_an_ended_upload_is_remembered_for_a_day_and_its_folder_gone(uploads: UploadsFolder, clock: Clock) -> None:
    upload = opened(uploads)
    late = uploads.write(upload.upload_id)
    with uploads.held(upload.upload_id) as (held, _):
        uploads.end(held, remember=True)

    assert list(uploads.unfinished()) == []
    assert known(uploads, upload) == upload
    with pytest.raises(NotFound):
        late.write([b"0"])
    with pytest.raises(NotFound):
        uploads.write(upload.upload_id)
    clock.time = datetime.now(UTC) + timedelta(days=1, minutes=1)
    uploads.sweep()
    assert uploads.get(upload.upload_id) is None
    late.close()


def test_openings_that_died_are_swept_and_living_uploads_stay(
    uploads: UploadsFolder, tmp_path: Path, clock: Clock
) -> None:
    upload = opened(uploads)
    for left in (".new-0123", "0" * 32):
        (tmp_path / "uploads" / left).mkdir()

    clock.time = datetime.now(UTC)
    uploads.sweep()
    assert (tmp_path / "uploads" / ".new-0123").exists()  # it may be on its way
    clock.time += timedelta(hours=2)
    uploads.sweep()

    assert sorted(each.name for each in (tmp_path / "uploads").iterdir()) == sorted([".lock", upload.upload_id])


@pytest.mark.parametrize("upload_id", ["", "..", "../x", "0" * 31, "0" * 33, "G" * 32, ".ended", "é"])
def test_what_is_no_identifier_of_ours_is_unknown(uploads: UploadsFolder, upload_id: str) -> None:
    assert uploads.get(upload_id) is None
    with pytest.raises(NotFound):
        uploads.write(upload_id)


# -- room ----------------------------------------------------------------------------------------


def limited(tmp_path: Path, clock: Clock, limits: Limits) -> UploadsFolder:
    return UploadsFolder(DataFolder(tmp_path), clock=clock, limits=limits)


def test_an_upload_beyond_the_limit_is_refused(tmp_path: Path, clock: Clock) -> None:
    uploads = limited(tmp_path, clock, Limits(max_upload_bytes=100, disk_reserve_bytes=0))

    with pytest.raises(TooLarge, match="101 bytes, more than the 100"):
        opened(uploads, 101)
    assert opened(uploads, 100).length_bytes == 100


def test_what_the_disk_keeps_free_is_not_touched_and_nothing_half_made_stays(tmp_path: Path, clock: Clock) -> None:
    uploads = limited(tmp_path, clock, Limits(disk_reserve_bytes=10**18))

    with pytest.raises(NoSpace, match="needs 1 bytes, and 0 are left on the server's disk"):
        opened(uploads, 1)
    assert [each.name for each in (tmp_path / "uploads").iterdir()] == [".lock"]


def test_the_quota_counts_what_is_stored_and_what_is_on_its_way(tmp_path: Path, clock: Clock) -> None:
    uploads = limited(tmp_path, clock, Limits(quota_bytes=100, disk_reserve_bytes=0))

    def open_with(length: int, user: str) -> Upload:
        return uploads.create(
            dataset_uuid="d",
            user=user,
            path="a",
            length_bytes=length,
            metadata="",
            closes=True,
            stored_bytes=lambda: 30,
        )

    first = open_with(40, "ada")
    with pytest.raises(TooLarge, match="30 are left of your 100"):
        open_with(31, "ada")
    open_with(60, "bob")  # another's quota is another's
    with uploads.held(first.upload_id) as (held, _):
        uploads.end(held, remember=False)
    open_with(70, "ada")

    assert not list((tmp_path / "uploads").glob(".new-*"))


def test_two_uploads_at_once_do_not_take_the_same_room(tmp_path: Path, clock: Clock) -> None:
    uploads = limited(tmp_path, clock, Limits(quota_bytes=100, disk_reserve_bytes=0))
    refused: list[TooLarge] = []
    start = threading.Barrier(8)

    def open_one() -> None:
        start.wait(30)
        try:
            opened(uploads, 60)
        except TooLarge as said:
            refused.append(said)

    threads = [threading.Thread(target=open_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(list(uploads.unfinished())) == 1
    assert len(refused) == 7


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: thousands of folders take a disk minutes to remove."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.mark.parametrize("number", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_thousands_of_uploads_that_were_opened_and_left_hinder_nobody_and_expire(
    memory: Path, clock: Clock, number: int
) -> None:
    uploads = UploadsFolder(
        DataFolder(memory), clock=clock, limits=Limits(disk_reserve_bytes=0, max_open_uploads=number)
    )
    first = uploads.create(
        dataset_uuid="d", user="ada", path="0.tif", length_bytes=9, metadata="", closes=False, durable=False
    )
    known = json.loads((memory / "uploads" / first.upload_id / "info.json").read_text())
    for _ in range(number - 1):  # as if they had been opened: only faster
        folder = memory / "uploads" / uuid.uuid4().hex
        folder.mkdir()
        (folder / "info.json").write_text(json.dumps(known | {"upload_id": folder.name}))
        (folder / "data").touch()
        (folder / "writer").write_text(f"{0:<20}")
    assert uploads.overview().open_uploads == number
    assert uploads.overview().missing_bytes == 9 * number
    with pytest.raises(TooMany, match=f"{number} of your uploads"):
        opened(uploads)
    bobs = opened(uploads, user="bob")

    clock.time += Limits().expiry + timedelta(seconds=1)
    writing = uploads.write(bobs.upload_id)
    writing.write([b"x"])
    writing.checkpoint()
    writing.close()

    assert sum(1 for _ in uploads.expired()) == uploads.overview().expired_uploads == number
    assert bobs.upload_id not in {upload.upload_id for upload in uploads.expired()}
