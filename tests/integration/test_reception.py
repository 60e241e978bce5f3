"""The body of a request into an upload: slow senders, rivals, and what is kept of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from portal_site import running_site
from starlette.types import Message

from scientistcloud.errors import Stale
from scientistcloud.layout import DataFolder
from scientistcloud.portal import bodies, exchange, reception
from scientistcloud.portal.bodies import Messages
from scientistcloud.portal.reception import End, Reception
from scientistcloud.uploads.folder import Limits, UploadsFolder


class Clock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return self.now().timestamp()


@pytest.fixture
def uploads(tmp_path: Path) -> UploadsFolder:
    return UploadsFolder(DataFolder(tmp_path), clock=Clock(), limits=Limits(disk_reserve_bytes=0))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a minute takes a fifth of a second."""
    monkeypatch.setattr(reception, "SLOW_SECONDS", 0.2)
    monkeypatch.setattr(reception, "CHECKPOINT_SECONDS", 0.05)


def chunk(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def opened(uploads: UploadsFolder, length: int) -> str:
    return uploads.create(
        dataset_uuid="d", user="ada", path="a", length_bytes=length, metadata="", closes=True
    ).upload_id


def received(
    uploads: UploadsFolder, upload_id: str, threads: ThreadPoolExecutor, messages: AsyncIterator[Message]
) -> End:
    async def run() -> End:
        arrived: asyncio.Queue[Message] = asyncio.Queue()

        async def send() -> None:
            async for message in messages:
                arrived.put_nowait(message)

        sender = asyncio.create_task(send())
        writing = uploads.write(upload_id)
        try:
            return await Reception(
                writing, Messages(arrived.get), threads, room_bytes=writing.upload.reserved_bytes
            ).run()
        finally:
            writing.close()
            sender.cancel()

    return asyncio.run(run())


def offset(uploads: UploadsFolder, upload_id: str) -> int:
    upload = uploads.get(upload_id)
    assert upload is not None
    return upload.offset_bytes


@pytest.mark.usefixtures("hurried")
def test_a_sender_that_falls_silent_is_let_go_and_what_it_sent_is_kept(
    uploads: UploadsFolder, threads: ThreadPoolExecutor
) -> None:
    async def silent() -> AsyncIterator[Message]:
        yield chunk(b"abc")
        await asyncio.sleep(3600)

    upload_id = opened(uploads, 10)

    assert received(uploads, upload_id, threads, silent()) is End.SLOW
    assert offset(uploads, upload_id) == 3


@pytest.mark.usefixtures("hurried")
def test_a_sender_of_single_bytes_is_let_go_too(uploads: UploadsFolder, threads: ThreadPoolExecutor) -> None:
    sent = 0

    async def dripping() -> AsyncIterator[Message]:
        nonlocal sent
        while True:
            sent += 1
            yield chunk(b"x")
            await asyncio.sleep(0.01)

    upload_id = opened(uploads, 10_000)

    assert received(uploads, upload_id, threads, dripping()) is End.SLOW
    assert 0 < offset(uploads, upload_id) <= sent


@pytest.mark.usefixtures("hurried")
def test_a_sender_that_is_slow_but_steady_is_kept(
    uploads: UploadsFolder, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception, "SLOW_BYTES", 10)
    monkeypatch.setattr(reception, "SLOW_SECONDS", 1.0)  # a busy machine stands still for tenths of it

    async def steady() -> AsyncIterator[Message]:
        for n in range(60):
            yield chunk(b"x" * 10, more=n < 59)
            await asyncio.sleep(0.03)

    upload_id = opened(uploads, 600)

    assert received(uploads, upload_id, threads, steady()) is End.WHOLE
    assert offset(uploads, upload_id) == 600


@pytest.mark.usefixtures("hurried")
def test_a_silent_sender_whose_upload_another_took_is_let_go_before_its_time(
    uploads: UploadsFolder, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception, "SLOW_SECONDS", 3600.0)
    upload_id = opened(uploads, 10)

    async def overtaken() -> AsyncIterator[Message]:
        yield chunk(b"abc")
        await asyncio.sleep(0.01)
        newer = uploads.write(upload_id)
        newer.close()
        await asyncio.sleep(3600)

    with pytest.raises(Stale):
        received(uploads, upload_id, threads, overtaken())
    assert offset(uploads, upload_id) == 0


@pytest.mark.usefixtures("hurried")
def test_what_a_living_sender_sent_becomes_durable_while_it_goes_on(
    uploads: UploadsFolder, threads: ThreadPoolExecutor
) -> None:
    upload_id = opened(uploads, 10_000)
    seen = []

    async def going_on() -> AsyncIterator[Message]:
        for _ in range(500):
            yield chunk(b"x" * 10)
            await asyncio.sleep(0.01)
            seen.append(offset(uploads, upload_id))
            if seen[-1]:
                break
        yield {"type": "http.disconnect"}

    assert received(uploads, upload_id, threads, going_on()) is End.CUT
    assert 0 < seen[-1] <= offset(uploads, upload_id)


def test_more_than_was_declared_is_told_and_nothing_of_the_end_is_kept(
    uploads: UploadsFolder, threads: ThreadPoolExecutor
) -> None:
    async def too_much() -> AsyncIterator[Message]:
        yield chunk(b"abc")
        yield chunk(b"def", more=False)

    upload_id = opened(uploads, 5)

    assert received(uploads, upload_id, threads, too_much()) is End.TOO_LONG
    assert offset(uploads, upload_id) == 0


def test_thousands_of_chunks_arrive_in_order(
    uploads: UploadsFolder, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    async def crumbs() -> AsyncIterator[Message]:
        for n in range(5000):
            yield chunk(bytes([n % 251]), more=n < 4999)

    upload_id = opened(uploads, 5000)

    assert received(uploads, upload_id, threads, crumbs()) is End.WHOLE
    assert (tmp_path / "uploads" / upload_id / "data").read_bytes() == bytes(n % 251 for n in range(5000))


def test_our_own_server_gives_bodies_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reaches into uvicorn: where that changes its ways, uploads still work, and this fails."""
    seen: list[type] = []

    def noted(scope: Any, receive: Any) -> Any:
        found = bodies.body_of(scope, receive)
        seen.append(type(found))
        return found

    monkeypatch.setattr(exchange, "body_of", noted)
    with running_site(tmp_path / "data", disk_reserve_bytes=0) as site, site.program() as client:
        headers = {
            "Tus-Resumable": "1.0.0", "Upload-Length": "5", "Upload-Metadata": "filename YQ==",
            "Content-Type": "application/offset+octet-stream",
        }  # fmt: skip
        answer = client.post("/api/uploads/", headers=headers, content=b"bytes")

    assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, "5")
    assert seen
    assert Messages not in seen


def test_a_sender_that_is_faster_than_the_disk_is_held_back() -> None:
    """At most a block gathers, so that an open upload takes a bounded part of memory."""
    paused: list[str] = []

    class Flow:
        def pause_reading(self) -> None:
            paused.append("paused")

        def resume_reading(self) -> None:
            paused.append("resumed")

    class Cycle:
        more_body, disconnected, waiting_for_100_continue = True, False, False

        def __init__(self) -> None:
            self.message_event = asyncio.Event()

    async def run() -> bodies.Taken:
        chunks = bodies._Chunks(Cycle(), Flow())  # type: ignore[arg-type]
        for _ in range(bodies.BLOCK_BYTES // 65536):
            assert paused == []
            chunks.add(b"x" * 65536)
        assert paused == ["paused"]
        return await chunks.take(60)

    taken = asyncio.run(run())

    assert taken.size_bytes == bodies.BLOCK_BYTES
    assert paused == ["paused", "resumed"]
