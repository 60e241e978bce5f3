"""Long bodies that go past the parser of HTTP: whole, and the connection is HTTP's again behind them."""

from __future__ import annotations

import hashlib
import random
import socket
import time
from collections.abc import Iterator
from email.message import Message
from http.client import parse_headers
from typing import BinaryIO
from urllib.parse import urlsplit

import httpx
import pytest
from portal_site import TOKEN, Site, running_site

from scientistcloud.portal import straight
from scientistcloud.portal.bodies import BLOCK_BYTES
from scientistcloud.uploads.metadata import encode

TUS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site") / "data", disk_reserve_bytes=0) as site:
        yield site


def request(method: str, place: str, **headers: object) -> bytes:
    known = {"Host": "127.0.0.1", "Authorization": f"Bearer {TOKEN}", **TUS}
    lines = (f"{name.replace('_', '-')}: {value}\r\n" for name, value in (known | headers).items())
    return f"{method} {place} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()


def opened(client: httpx.Client, length: int, **metadata: str) -> str:
    headers = TUS | {"Upload-Length": str(length), "Upload-Metadata": encode({"filename": "a"} | metadata)}
    return client.post("/api/uploads/", headers=headers).headers["Location"]


def connected(site: Site) -> socket.socket:
    return socket.create_connection((urlsplit(site.url).hostname, urlsplit(site.url).port), timeout=60)


def answer_on(answers: BinaryIO) -> tuple[int, Message]:
    """Status and headers of the next of the answers on a connection, its body read."""
    status = int(answers.readline().split()[1])
    headers = parse_headers(answers)
    if status == 200:
        answers.read(int(headers["Content-Length"]))
    return status, headers


@pytest.mark.parametrize("size", [BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES + 12_345])
def test_a_long_body_arrives_whole_and_the_next_request_behind_it_is_answered(site: Site, size: int) -> None:
    content = random.Random(size).randbytes(size)

    with site.program() as client, connected(site) as line, line.makefile("rb") as answers:
        place = opened(client, size)
        bytes_type = "application/offset+octet-stream"
        head = request("PATCH", place, Content_Type=bytes_type, Upload_Offset=0, Content_Length=size)
        behind = request("GET", place)  # it is sent before the first is answered
        line.sendall(head + content + behind)
        patched, _ = answer_on(answers)
        read, headers = answer_on(answers)
        uuid = client.head(place, headers=TUS).headers["Dataset-UUID"]
        line.sendall(request("GET", f"/api/datasets/{uuid}/files"))
        third, _ = answer_on(answers)

    assert (patched, read, third) == (204, 200, 200)
    assert headers["Content-Length"] == str(size)
    stored = site.settings.data_dir / "datasets" / uuid / "source" / "a"
    assert hashlib.sha256(stored.read_bytes()).digest() == hashlib.sha256(content).digest()


def test_of_a_long_body_that_breaks_off_what_came_is_kept(site: Site) -> None:
    size, came = 4 * BLOCK_BYTES, 2 * BLOCK_BYTES + 1000
    content = random.Random(1).randbytes(size)

    with site.program() as client:
        place = opened(client, size)
        bytes_type = "application/offset+octet-stream"
        with connected(site) as line:
            line.sendall(request("PATCH", place, Content_Type=bytes_type, Upload_Offset=0, Content_Length=size))
            line.sendall(content[:came])
        deadline = time.monotonic() + 60
        while int(offset := client.head(place, headers=TUS).headers["Upload-Offset"]) < came:
            assert time.monotonic() < deadline, offset
        headers = TUS | {"Content-Type": bytes_type, "Upload-Offset": offset}
        rest = client.patch(place, headers=headers, content=content[int(offset) :])
        uuid = client.head(place, headers=TUS).headers["Dataset-UUID"]

    assert int(offset) == came
    assert rest.status_code == 204
    assert (site.settings.data_dir / "datasets" / uuid / "source" / "a").read_bytes() == content


def test_a_long_body_that_is_refused_leaves_the_next_connection_alone(site: Site) -> None:
    with site.program() as client:
        place = opened(client, 8 * BLOCK_BYTES)
        headers = TUS | {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "5"}
        refused = client.patch(place, headers=headers, content=bytes(2 * BLOCK_BYTES))
        asked = client.head(place, headers=TUS)

    assert (refused.status_code, asked.headers["Upload-Offset"]) == (409, "0")


def test_a_block_is_filled_anew_only_when_two_others_were_handed_on() -> None:
    """What is being written, and what waits behind it, is not written over."""
    got: list[memoryview] = []

    class Http:
        def connection_lost(self, exc: Exception | None) -> None: ...
        def pause_writing(self) -> None: ...
        def resume_writing(self) -> None: ...

    receiving = straight.Straight(
        Http(), 8, block_bytes=2, add=got.append, wanted=lambda: True, whole=lambda: got.append(memoryview(b"end"))
    )
    for n in range(4):
        receiving.get_buffer(-1)[:] = bytes([n, n])
        assert [bytes(block) for block in got[-2:]] == [bytes([m, m]) for m in range(max(0, n - 2), n)]
        receiving.buffer_updated(2)

    assert bytes(got[-1]) == b"end"
