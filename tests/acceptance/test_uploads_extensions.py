"""The extensions of tus over real HTTP: deferred length, checksum, concatenation; and bytes that are read back."""

from __future__ import annotations

import base64
import hashlib
import random
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from blake3 import blake3
from intake_site import BEARER, BYTES, MAX_UPLOAD_BYTES, OWNER, TUS, Portal, offset_of, opened, sent

from scientistcloud.uploads.folder import Limits
from scientistcloud.uploads.metadata import encode
from scientistcloud.uploads.processor import UploadProcessor

METADATA = {"Upload-Metadata": encode({"filename": "scan.tif"})}


def created(client: httpx.Client, content: bytes = b"", **headers: str) -> httpx.Response:
    """POST with these headers, and with bytes where there are some."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = client.post("/api/uploads/", headers=(BYTES if content else TUS) | METADATA | named, content=content)
    assert answer.status_code == 201, answer.text
    return answer


# -- a length that is known later ----------------------------------------------------------------


def deferred(client: httpx.Client) -> httpx.Response:
    return created(client, Upload_Defer_Length="1")


def test_a_length_can_be_declared_with_the_last_bytes(portal: Portal, client: httpx.Client) -> None:
    answer = deferred(client)
    place, uuid = answer.headers["Location"], answer.headers["Dataset-UUID"]
    assert client.head(place, headers=TUS).headers["Upload-Defer-Length"] == "1"
    assert "Upload-Length" not in client.head(place, headers=TUS).headers

    first = sent(client, place, 0, b"abc")
    assert (first.status_code, first.headers["Upload-Offset"]) == (204, "3")
    assert portal.jobs_of(uuid) == []
    last = client.patch(place, headers=BYTES | {"Upload-Offset": "3", "Upload-Length": "6"}, content=b"def")

    assert (last.status_code, last.headers["Upload-Offset"]) == (204, "6")
    assert portal.source(uuid, "scan.tif") == b"abcdef"
    assert portal.jobs_of(uuid) == [f"convert:{uuid}:1"]


@pytest.mark.parametrize("content", [b"abc", b""])
def test_a_length_can_be_declared_when_all_bytes_are_there(
    portal: Portal, client: httpx.Client, content: bytes
) -> None:
    answer = deferred(client)
    place = answer.headers["Location"]
    if content:
        sent(client, place, 0, content)

    headers = BYTES | {"Upload-Offset": str(len(content)), "Upload-Length": str(len(content))}
    done = client.patch(place, headers=headers)

    assert done.status_code == 204
    assert portal.source(answer.headers["Dataset-UUID"], "scan.tif") == content
    assert len(portal.jobs_of(answer.headers["Dataset-UUID"])) == 1
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert done.headers["Repr-Digest"] == f"sha-256=:{digest}:"


def test_a_chunked_body_into_an_upload_of_unknown_length_is_kept(portal: Portal, client: httpx.Client) -> None:
    place = deferred(client).headers["Location"]

    assert sent(client, place, 0, iter([b"abc", b"def"])).headers["Upload-Offset"] == "6"

    assert client.get(place, headers=BEARER).content == b"abcdef"


def test_a_length_once_declared_stays(client: httpx.Client) -> None:
    place = deferred(client).headers["Location"]
    headers = BYTES | {"Upload-Offset": "0"}
    assert client.patch(place, headers=headers | {"Upload-Length": "5"}, content=b"ab").status_code == 204

    headers = BYTES | {"Upload-Offset": "2"}
    refused = client.patch(place, headers=headers | {"Upload-Length": "6"}, content=b"cd")
    again = client.patch(place, headers=headers | {"Upload-Length": "5"}, content=b"cd")

    assert (refused.status_code, again.status_code) == (400, 204)
    assert "Upload-Length was 5" in refused.json()["detail"]
    known = client.head(place, headers=TUS).headers
    assert (known["Upload-Offset"], known["Upload-Length"]) == ("4", "5")


def test_a_length_below_what_is_there_is_refused(client: httpx.Client) -> None:
    place = deferred(client).headers["Location"]
    sent(client, place, 0, b"abcd")

    refused = client.patch(place, headers=BYTES | {"Upload-Offset": "4", "Upload-Length": "3"})

    assert refused.status_code in (400, 413)
    assert offset_of(client, place) == 4


# -- small files with the request that opens them -------------------------------------------------


def posted(client: httpx.Client, uuid: str, name: str, content: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    metadata = {"Upload-Metadata": encode({"filename": name, "dataset": uuid})}
    length = {"Upload-Length": str(len(content))}
    return client.post("/api/uploads/", headers=BYTES | length | metadata | named, content=content)


def test_small_files_that_come_at_once_are_each_whole_and_known_after_a_restart(
    portal: Portal, client: httpx.Client
) -> None:
    before = portal.uploads()
    uuid = client.post("/api/datasets", headers=BEARER, json={"name": "small"}).json()["uuid"]
    contents = {f"{n:02}.bin": random.Random(n).randbytes(n * 1000) for n in range(24)}

    with ThreadPoolExecutor(8) as senders:
        answers = dict(
            zip(contents, senders.map(lambda item: posted(client, uuid, *item), contents.items()), strict=True)
        )

    assert {answer.status_code for answer in answers.values()} == {201}
    for name, content in contents.items():
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        assert answers[name].headers["Upload-Offset"] == str(len(content))
        assert answers[name].headers["Repr-Digest"] == f"sha-256=:{digest}:"
        assert portal.source(uuid, name) == content
    assert portal.uploads() == before
    portal.kill()
    portal.start()
    with portal.client() as again:
        for name, content in list(contents.items())[:5]:
            place = answers[name].headers["Location"]
            assert again.head(place, headers=TUS).headers["Upload-Length"] == str(len(content))
            assert again.get(place, headers=BEARER).content == content
        assert again.post(f"/api/datasets/{uuid}/close", headers=BEARER).status_code == 200


def test_of_a_small_file_that_breaks_off_or_is_not_what_it_says_nothing_is_kept(
    portal: Portal, client: httpx.Client
) -> None:
    before = portal.uploads()
    uuid = client.post("/api/datasets", headers=BEARER, json={"name": "broken"}).json()["uuid"]
    bad = posted(client, uuid, "a", b"abc", **checksum("sha256", b"abd"))
    text = "".join(
        f"{name}: {value}\r\n"
        for name, value in (
            BYTES | {"Upload-Metadata": encode({"filename": "b", "dataset": uuid}), "Upload-Length": "10"}
        ).items()
    )
    with socket.create_connection(("127.0.0.1", portal.port), timeout=60) as line:
        line.sendall(
            f"POST /api/uploads/ HTTP/1.1\r\nHost: 127.0.0.1\r\n{text}Content-Length: 10\r\n\r\n01234".encode()
        )
        line.shutdown(socket.SHUT_WR)
        line.recv(1)  # it has noticed
    good = posted(client, uuid, "c", b"abc", **checksum("sha256", b"abc"))

    assert (bad.status_code, good.status_code) == (460, 201), good.text
    files = client.get(f"/api/datasets/{uuid}/files", headers=BEARER).json()["files"]
    assert [file["path"] for file in files] == ["c"]
    assert portal.uploads() == before


@pytest.mark.parametrize(
    "headers",
    [{"Upload-Defer-Length": "2"}, {"Upload-Defer-Length": "1", "Upload-Length": "3"}, {"Upload-Defer-Length": ""}],
)
def test_a_deferred_length_that_is_none_is_refused(client: httpx.Client, headers: dict[str, str]) -> None:
    assert client.post("/api/uploads/", headers=TUS | METADATA | headers).status_code == 400


def test_an_upload_of_unknown_length_is_held_to_the_limit(portal: Portal, client: httpx.Client) -> None:
    place = deferred(client).headers["Location"]
    declared = client.patch(
        place, headers=BYTES | {"Upload-Offset": "0", "Upload-Length": str(MAX_UPLOAD_BYTES + 1)}
    )
    assert declared.status_code == 413
    with socket.create_connection(("127.0.0.1", portal.port), timeout=60) as line:
        headers = BYTES | {"Upload-Offset": "0", "Content-Length": str(MAX_UPLOAD_BYTES + 1)}
        text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        line.sendall(f"PATCH {place} HTTP/1.1\r\nHost: 127.0.0.1\r\n{text}\r\n".encode())

        assert b" 413 " in line.recv(4096).split(b"\r\n")[0]  # before a byte is sent


# -- a checksum ----------------------------------------------------------------------------------

DIGESTS = {
    "sha1": lambda content: hashlib.sha1(content).digest(),
    "sha256": lambda content: hashlib.sha256(content).digest(),
    "blake3": lambda content: blake3(content).digest(),
}


def checksum(algorithm: str, content: bytes) -> dict[str, str]:
    value = base64.b64encode(DIGESTS[algorithm](content)).decode()
    return {"Upload-Checksum": f"{algorithm} {value}"}


@pytest.mark.parametrize("algorithm", DIGESTS)
def test_bytes_are_kept_if_they_are_what_their_checksum_says(
    portal: Portal, client: httpx.Client, algorithm: str
) -> None:
    content = random.Random(3).randbytes(5 * 2**20)
    answer = opened(client, len(content))
    place, half = answer.headers["Location"], 3 * 2**20

    lying = client.patch(
        place, headers=BYTES | {"Upload-Offset": "0"} | checksum(algorithm, b"other"), content=content[:half]
    )
    assert (lying.status_code, lying.json()["status"]) == (460, 460)
    assert offset_of(client, place) == 0

    for start, stop in ((0, half), (half, len(content))):
        headers = BYTES | {"Upload-Offset": str(start)} | checksum(algorithm, content[start:stop])
        assert client.patch(place, headers=headers, content=content[start:stop]).status_code == 204
    assert portal.source(answer.headers["Dataset-UUID"], "scan.tif") == content
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert client.head(place, headers=TUS).headers["Repr-Digest"] == f"sha-256=:{digest}:"


def test_a_body_that_breaks_off_before_its_checksum_is_known_is_not_kept(
    portal: Portal, client: httpx.Client
) -> None:
    place = opened(client, 10).headers["Location"]
    headers = BYTES | {"Upload-Offset": "0", "Content-Length": "10"} | checksum("sha1", b"0123456789")

    def broken() -> Iterator[bytes]:
        yield b"01234"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        client.patch(place, headers=headers, content=broken())

    whole = client.patch(place, headers=headers, content=b"0123456789")
    assert whole.status_code == 204


def test_the_first_bytes_may_have_a_checksum_too(client: httpx.Client) -> None:
    good = client.post(
        "/api/uploads/",
        headers=BYTES | METADATA | {"Upload-Length": "3"} | checksum("sha256", b"abc"),
        content=b"abc",
    )
    bad = client.post(
        "/api/uploads/",
        headers=BYTES | METADATA | {"Upload-Length": "3"} | checksum("sha256", b"abd"),
        content=b"abc",
    )

    assert (good.status_code, bad.status_code) == (201, 460)


@pytest.mark.parametrize(
    "header", ["md5 1B2M2Y8AsgTpgAmY7PhCfg==", "sha1", "sha1 ***", "sha1 YWJj", "", "SHA1 YQ=="]
)
def test_a_checksum_that_is_none_is_refused_before_a_byte_is_read(client: httpx.Client, header: str) -> None:
    place = opened(client, 3).headers["Location"]

    answer = client.patch(place, headers=BYTES | {"Upload-Offset": "0", "Upload-Checksum": header}, content=b"abc")

    assert answer.status_code == 400
    assert "Upload-Checksum" in answer.json()["detail"]
    assert offset_of(client, place) == 0


# -- parts ---------------------------------------------------------------------------------------


def part(client: httpx.Client, content: bytes) -> str:
    """A part, sent."""
    answer = client.post(
        "/api/uploads/",
        headers=BYTES | {"Upload-Concat": "partial", "Upload-Length": str(len(content))},
        content=content,
    )
    assert answer.status_code == 201, answer.text
    assert "Dataset-UUID" not in answer.headers
    return str(answer.headers["Location"])


def whole(client: httpx.Client, *parts: str, **headers: Any) -> httpx.Response:
    return client.post(
        "/api/uploads/", headers=TUS | METADATA | {"Upload-Concat": f"final;{' '.join(parts)}"} | headers
    )


def test_parts_that_were_sent_at_once_become_one_file(portal: Portal, client: httpx.Client) -> None:
    contents = [random.Random(n).randbytes(size) for n, size in enumerate((2**20, 5 * 2**20 + 1, 1))]
    parts = [part(client, content) for content in contents]
    head = client.head(parts[0], headers=TUS)
    assert (head.headers["Upload-Concat"], head.headers["Upload-Offset"]) == ("partial", str(2**20))

    # Addresses may be whole ones too.
    answer = whole(client, parts[0], portal.url + parts[1], parts[2])

    uuid, place = answer.headers["Dataset-UUID"], answer.headers["Location"]
    made = client.head(place, headers=TUS)
    assert made.headers["Upload-Offset"] == made.headers["Upload-Length"] == str(sum(map(len, contents)))
    assert made.headers["Upload-Concat"] == f"final;{parts[0]} {portal.url + parts[1]} {parts[2]}"
    assert portal.source(uuid, "scan.tif") == b"".join(contents)
    assert portal.jobs_of(uuid) == [f"convert:{uuid}:1"]
    [file] = client.get(f"/api/datasets/{uuid}/files", headers=BEARER).json()["files"]
    assert file["sha256"] == hashlib.sha256(b"".join(contents)).hexdigest()
    assert [client.head(place, headers=TUS).status_code for place in parts] == [404, 404, 404]
    assert not {place.rpartition("/")[2] for place in (place, *parts)} & set(portal.uploads())


def test_a_part_goes_on_after_a_cut_like_any_upload(client: httpx.Client) -> None:
    answer = client.post("/api/uploads/", headers=TUS | {"Upload-Concat": "partial", "Upload-Length": "6"})
    place = answer.headers["Location"]
    sent(client, place, 0, b"abc")

    refused = whole(client, place)
    assert refused.status_code == 409
    assert "has 3 of 6 bytes" in refused.json()["detail"]

    assert sent(client, place, 3, b"def").status_code == 204
    assert client.get(place, headers=BEARER).content == b"abcdef"
    assert whole(client, place).status_code == 201


def test_a_whole_takes_no_bytes(client: httpx.Client) -> None:
    answer = whole(client, part(client, b"abc"), part(client, b"def"))

    assert sent(client, answer.headers["Location"], 6, b"").status_code == 403


def test_parts_of_others_and_what_is_no_part_are_refused(portal: Portal, client: httpx.Client) -> None:
    with portal.store() as store:
        processor = UploadProcessor(store, data_dir=portal.data_dir, limits=Limits(disk_reserve_bytes=0))
        foreign = processor.open_part(user="bob@example.org", length_bytes=0)
    mine = part(client, b"abc")
    before = portal.uploads()

    answers = [
        whole(client, f"/api/uploads/{foreign.upload_id}"),
        whole(client, "/api/uploads/" + "0" * 32),
        whole(client, opened(client, 0).headers["Location"]),
        whole(client),
        whole(client, mine, **{"Upload-Length": "3"}),
        client.post("/api/uploads/", headers=TUS | {"Upload-Concat": "some", "Upload-Length": "3"}),
    ]

    assert [answer.status_code for answer in answers] == [400] * 6
    assert portal.uploads() == before
    assert client.head(f"/api/uploads/{foreign.upload_id}", headers=TUS).status_code == 404


def test_a_whole_that_a_crash_stopped_is_put_together_by_the_next_start(
    portal: Portal, client: httpx.Client
) -> None:
    parts = [part(client, content) for content in (b"abc", b"def")]
    with portal.store() as store:  # the state that a kill leaves between the answer and the last part
        processor = UploadProcessor(store, data_dir=portal.data_dir, limits=Limits(disk_reserve_bytes=0))
        found = [processor.known(place.rpartition("/")[2]) for place in parts]
        upload = processor.open_upload(
            user=OWNER, path="scan.tif", length_bytes=6, concat=f"final;{' '.join(parts)}", parts=found
        )
        writing = processor.uploads.write(upload.upload_id)
        writing.write([b"ab"])
        writing.checkpoint()
        writing.close()

        UploadProcessor(store, data_dir=portal.data_dir).recover()

    place = f"/api/uploads/{upload.upload_id}"
    assert client.head(place, headers=TUS).headers["Upload-Offset"] == "6"
    assert portal.source(upload.dataset_uuid, "scan.tif") == b"abcdef"
    assert portal.jobs_of(upload.dataset_uuid) == [f"convert:{upload.dataset_uuid}:1"]


# -- reading back --------------------------------------------------------------------------------


def test_the_owner_reads_what_has_arrived_and_no_more(portal: Portal, client: httpx.Client) -> None:
    answer = opened(client, 6, name="<b>.html")
    place = answer.headers["Location"]
    sent(client, place, 0, b"abc")
    upload = place.rpartition("/")[2]
    with (portal.data_dir / "uploads" / upload / "data").open("ab") as file:
        file.write(b"torn")  # beyond the durable offset

    part = client.get(place, headers=BEARER | {"Range": "bytes=1-"})
    assert client.get(place, headers=BEARER).content == b"abc"
    assert (part.status_code, part.content) == (206, b"bc")
    sent(client, place, 3, b"def")
    done = client.get(place, headers=BEARER)

    assert done.content == b"abcdef"
    assert done.headers["Content-Disposition"] == "attachment; filename*=UTF-8''%3Cb%3E.html"
    assert "sandbox" in done.headers["Content-Security-Policy"]
    assert client.get(place).status_code == 401
    assert client.get("/api/uploads/" + "0" * 32, headers=BEARER).status_code == 404
