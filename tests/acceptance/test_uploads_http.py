"""The tus endpoint over real HTTP: what is refused and how, what is kept, who may."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import http.client
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from intake_site import BEARER, BYTES, MAX_UPLOAD_BYTES, OWNER, TOKEN, TUS, Portal, offset_of, opened, sent

from scientistcloud.access import tokens
from scientistcloud.assembly import open_store
from scientistcloud.records import DatasetStatus, Person
from scientistcloud.uploads.folder import Limits
from scientistcloud.uploads.metadata import encode
from scientistcloud.uploads.processor import UploadProcessor

CONTENT = bytes(range(256)) * 40


def location(answer: httpx.Response) -> str:
    assert answer.status_code == 201, answer.text
    return str(answer.headers["Location"])


# -- the way it should go ------------------------------------------------------------------------


def test_an_upload_in_one_patch_becomes_a_data_set_with_one_job(portal: Portal, client: httpx.Client) -> None:
    answer = opened(client, len(CONTENT), name="Cells.tif", sensor="TIFF")
    place, uuid = location(answer), answer.headers["Dataset-UUID"]
    with portal.store() as store:  # the record is there before the answer is
        dataset = store.datasets.get(uuid)
    assert dataset is not None
    assert (dataset.user, dataset.name, dataset.sensor) == (OWNER, "Cells.tif", "TIFF")
    assert dataset.status is DatasetStatus.UPLOADING

    done = sent(client, place, 0, CONTENT)

    assert done.status_code == 204
    assert done.headers["Upload-Offset"] == str(len(CONTENT))
    assert portal.source(uuid, "Cells.tif") == CONTENT
    assert portal.jobs_of(uuid) == [f"convert:{uuid}:1"]
    assert client.get(f"/api/datasets/{uuid}", headers=BEARER).json()["status"] == "conversion queued"
    assert place.rsplit("/", 1)[-1] not in portal.uploads()


def test_the_location_is_relative_whatever_host_the_client_claims(client: httpx.Client) -> None:
    forged = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Forwarded": "host=evil.example"}

    answer = client.post(
        "/api/uploads/", headers=TUS | forged | {"Upload-Length": "1", "Upload-Metadata": encode({"filename": "a"})}
    )

    assert location(answer).startswith("/api/uploads/")
    assert "evil" not in str(answer.headers)


def test_the_metadata_comes_back_exactly_as_it_was_sent(client: httpx.Client) -> None:
    odd = "filename  , other".replace("  ", " PHNjcmlwdD7wn5Ss ")

    answer = client.post("/api/uploads/", headers=TUS | {"Upload-Length": "1", "Upload-Metadata": odd})
    head = client.head(location(answer), headers=TUS)

    assert head.headers["Upload-Metadata"] == odd
    assert (head.headers["Upload-Length"], head.headers["Cache-Control"]) == ("1", "no-store")
    assert head.headers["Dataset-UUID"] == answer.headers["Dataset-UUID"]
    assert "Upload-Expires" in head.headers


def test_a_name_with_markup_or_emoji_is_kept_exactly(portal: Portal, client: httpx.Client) -> None:
    name = "<script>alert(1)<\N{DIVISION SLASH}script> 🔬.tif"
    answer = opened(client, 3, name=name)

    sent(client, location(answer), 0, b"abc")

    uuid = answer.headers["Dataset-UUID"]
    assert portal.source(uuid, name) == b"abc"
    assert client.get(f"/api/datasets/{uuid}", headers=BEARER).json()["name"] == name


def test_bytes_may_come_with_the_opening_request(portal: Portal, client: httpx.Client) -> None:
    metadata = encode({"filename": "a.tif"})

    whole = client.post(
        "/api/uploads/", headers=BYTES | {"Upload-Length": "4", "Upload-Metadata": metadata}, content=b"abcd"
    )
    part = client.post(
        "/api/uploads/", headers=BYTES | {"Upload-Length": "4", "Upload-Metadata": metadata}, content=b"ab"
    )

    assert (whole.status_code, whole.headers["Upload-Offset"]) == (201, "4")
    assert portal.jobs_of(whole.headers["Dataset-UUID"]) != []
    assert (part.status_code, part.headers["Upload-Offset"]) == (201, "2")
    assert sent(client, location(part), 2, b"cd").status_code == 204


def test_an_empty_file_is_complete_at_once(portal: Portal, client: httpx.Client) -> None:
    answer = opened(client, 0, name="empty.tif")

    assert location(answer)
    assert portal.source(answer.headers["Dataset-UUID"], "empty.tif") == b""
    assert len(portal.jobs_of(answer.headers["Dataset-UUID"])) == 1


def test_chunked_transfer_encoding_works(portal: Portal, client: httpx.Client) -> None:
    answer = opened(client, 9)

    assert sent(client, location(answer), 0, iter([b"abc", b"def"])).headers["Upload-Offset"] == "6"
    assert sent(client, location(answer), 6, iter([b"ghi"])).status_code == 204
    assert portal.source(answer.headers["Dataset-UUID"], "scan.tif") == b"abcdefghi"


def test_a_client_that_waits_to_be_asked_for_the_body_is_asked_only_if_it_is_wanted(
    portal: Portal, client: httpx.Client
) -> None:
    place = location(opened(client, 4))

    def patch(offset: int) -> tuple[bytes, bytes]:
        with socket.create_connection(("127.0.0.1", portal.port), timeout=30) as line:
            headers = BYTES | {"Upload-Offset": str(offset), "Content-Length": "4", "Expect": "100-continue"}
            text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            line.sendall(f"PATCH {place} HTTP/1.1\r\nHost: 127.0.0.1\r\n{text}\r\n".encode())
            first = line.recv(4096)
            if b" 100 " in first.split(b"\r\n")[0]:
                line.sendall(b"abcd")
                return first, line.recv(4096)
            return first, b""

    assert b" 409 " in patch(2)[0].split(b"\r\n")[0]
    asked, answer = patch(0)
    assert asked.startswith(b"HTTP/1.1 100 ")
    assert answer.startswith(b"HTTP/1.1 204 ")


def test_a_lost_last_answer_costs_nothing(portal: Portal, client: httpx.Client) -> None:
    answer = opened(client, 4)
    sent(client, location(answer), 0, b"abcd")  # and its answer is lost

    head = client.head(location(answer), headers=TUS)
    again = sent(client, location(answer), 4, b"")

    assert (head.status_code, head.headers["Upload-Offset"], head.headers["Upload-Length"]) == (200, "4", "4")
    assert (again.status_code, again.headers["Upload-Offset"]) == (204, "4")
    assert sent(client, location(answer), 4, b"e").status_code == 413
    assert len(portal.jobs_of(answer.headers["Dataset-UUID"])) == 1


def test_the_method_can_be_given_as_a_header(client: httpx.Client) -> None:
    place = location(opened(client, 4))

    answer = client.post(
        place, headers=BYTES | {"X-HTTP-Method-Override": "PATCH", "Upload-Offset": "0"}, content=b"ab"
    )

    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, "2")


def test_what_the_server_speaks_is_told(client: httpx.Client) -> None:
    answer = client.options("/api/uploads/", headers=BEARER)

    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert set(answer.headers["Tus-Extension"].split(",")) == {
        *("creation", "creation-with-upload", "creation-defer-length", "termination", "expiration", "checksum"),
        "concatenation",
    }
    assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256,blake3"
    assert answer.headers["Tus-Max-Size"] == str(MAX_UPLOAD_BYTES)


def test_an_upload_can_be_ended(portal: Portal, client: httpx.Client) -> None:
    answer = opened(client, 4)
    sent(client, location(answer), 0, b"ab")

    assert client.delete(location(answer), headers=TUS).status_code == 204

    assert client.head(location(answer), headers=TUS).status_code == 404
    assert client.get(f"/api/datasets/{answer.headers['Dataset-UUID']}", headers=BEARER).status_code == 404
    assert location(answer).rsplit("/", 1)[-1] not in portal.uploads()


# -- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("length", ["", "-5", "1e3", "0x10", "ten", "5 5", "١"])
def test_a_length_that_is_none_is_refused(client: httpx.Client, length: str) -> None:
    answer = client.post(
        "/api/uploads/",
        headers={
            **{key.encode(): value.encode() for key, value in TUS.items()},
            b"Upload-Length": length.encode(),
            b"Upload-Metadata": encode({"filename": "a"}).encode(),
        },
    )

    assert answer.status_code == 400
    assert "Upload-Length" in answer.json()["detail"]


@pytest.mark.parametrize("length", [str(10**15), "9" * 300, str(MAX_UPLOAD_BYTES + 1)])
def test_a_length_beyond_the_limit_is_refused(client: httpx.Client, length: str) -> None:
    answer = client.post(
        "/api/uploads/", headers=TUS | {"Upload-Length": length, "Upload-Metadata": encode({"filename": "a"})}
    )

    assert answer.status_code == 413
    assert answer.json()["error"] == "TooLarge"


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\0b", "x" * 256])
def test_a_name_that_leads_elsewhere_is_refused_at_the_opening(
    portal: Portal, client: httpx.Client, name: str
) -> None:
    before = portal.uploads()

    for metadata in ({"filename": name}, {"filename": "sound.tif", "relativePath": name}):
        answer = client.post(
            "/api/uploads/", headers=TUS | {"Upload-Length": "1", "Upload-Metadata": encode(metadata)}
        )
        assert answer.status_code == 400
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "file name" in answer.json()["detail"]
    assert portal.uploads() == before


@pytest.mark.parametrize("metadata", ["filename ===", "filename", "", "filename YQ==,filename YQ=="])
def test_metadata_that_cannot_be_read_are_refused(client: httpx.Client, metadata: str) -> None:
    answer = client.post("/api/uploads/", headers=TUS | {"Upload-Length": "1", "Upload-Metadata": metadata})

    assert answer.status_code == 400
    assert "Upload-Metadata" in answer.json()["detail"]


@pytest.mark.parametrize("version", [None, "0.2.2", "2.0.0"])
def test_another_version_of_tus_is_refused_with_ours(client: httpx.Client, version: str | None) -> None:
    headers = BEARER | ({} if version is None else {"Tus-Resumable": version})

    answer = client.post("/api/uploads/", headers=headers | {"Upload-Length": "1"})

    assert (answer.status_code, answer.headers["Tus-Version"]) == (412, "1.0.0")


@pytest.mark.parametrize("offset", ["1", "3", "5"])
def test_an_offset_that_is_not_the_durable_one_is_told_the_right_one(client: httpx.Client, offset: str) -> None:
    place = location(opened(client, 5))
    sent(client, place, 0, b"ab")

    answer = client.patch(place, headers=BYTES | {"Upload-Offset": offset}, content=b"c" if offset < "5" else b"")

    assert (answer.status_code, answer.headers["Upload-Offset"]) == (409, "2")
    assert offset_of(client, place) == 2


@pytest.mark.parametrize("offset", [None, "-1", "x", "1.5"])
def test_an_offset_that_is_none_is_refused(client: httpx.Client, offset: str | None) -> None:
    place = location(opened(client, 5))

    answer = client.patch(
        place, headers=BYTES | ({} if offset is None else {"Upload-Offset": offset}), content=b"a"
    )

    assert answer.status_code == 400
    assert offset_of(client, place) == 0


def test_bytes_come_as_what_they_are(client: httpx.Client) -> None:
    place = location(opened(client, 5))

    answer = client.patch(
        place, headers=TUS | {"Upload-Offset": "0", "Content-Type": "application/json"}, content=b"ab"
    )

    assert answer.status_code == 415
    assert offset_of(client, place) == 0


@pytest.mark.parametrize("name", ["Upload-Offset", "Upload-Metadata", "Upload-Checksum", "Content-Type"])
def test_a_header_that_came_twice_is_refused(client: httpx.Client, name: str) -> None:
    place = location(opened(client, 5))
    once = BYTES | {
        "Upload-Offset": "0",
        "Upload-Metadata": "filename YQ==",
        "Upload-Checksum": f"sha1 {'A' * 27}=",
    }

    answer = client.patch(place, headers=[*once.items(), (name, "3")], content=b"abc")

    assert answer.status_code == 400
    assert f"{name} came twice" in answer.json()["detail"]
    assert offset_of(client, place) == 0


@pytest.mark.parametrize(
    ("encoded", "status"), [({"Content-Encoding": "gzip"}, 415), ({"Transfer-Encoding": "gzip, chunked"}, 501)]
)
def test_an_encoded_body_is_not_taken_for_the_file(
    portal: Portal, client: httpx.Client, encoded: dict[str, str], status: int
) -> None:
    place = location(opened(client, 5))
    url = httpx.URL(portal.url)
    line = http.client.HTTPConnection(url.host, url.port or 80)  # httpx sends no such encodings

    line.request("PATCH", place, b"3\r\nabc\r\n0\r\n\r\n", BYTES | {"Upload-Offset": "0"} | encoded)

    assert line.getresponse().status == status
    line.close()
    assert offset_of(client, place) == 0
    plain = BYTES | {"Upload-Offset": "0", "Content-Encoding": "identity"}
    assert client.patch(place, headers=plain, content=b"abc").status_code == 204


def test_a_body_longer_than_declared_is_refused_before_it_is_read(client: httpx.Client) -> None:
    place = location(opened(client, 5))

    assert sent(client, place, 0, b"abcdef").status_code == 413
    assert offset_of(client, place) == 0


def test_a_chunked_body_longer_than_declared_does_not_complete_the_upload(
    portal: Portal, client: httpx.Client
) -> None:
    answer = opened(client, 5)

    refused = sent(client, location(answer), 0, iter([b"abc", b"def"]))

    assert refused.status_code == 413
    assert offset_of(client, location(answer)) == 0
    assert portal.jobs_of(answer.headers["Dataset-UUID"]) == []
    assert sent(client, location(answer), 0, b"abcde").status_code == 204
    assert portal.source(answer.headers["Dataset-UUID"], "scan.tif") == b"abcde"


def test_a_body_shorter_than_its_header_says_is_kept_as_far_as_it_came(
    portal: Portal, client: httpx.Client
) -> None:
    content = CONTENT * 500
    answer = opened(client, len(content))
    data = portal.data_dir / "uploads" / location(answer).rsplit("/", 1)[-1] / "data"
    with started_patch(portal, location(answer), 0, length=len(content), first=content[:-9]):
        wait_for(lambda: data.stat().st_size >= 4 * 2**20)

    wait_for(lambda: offset_of(client, location(answer)) >= 4 * 2**20)
    came = offset_of(client, location(answer))

    assert sent(client, location(answer), came, content[came:]).status_code == 204
    assert portal.source(answer.headers["Dataset-UUID"], "scan.tif") == content


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_other_methods_are_refused(client: httpx.Client, method: str) -> None:
    answer = client.request(method, location(opened(client, 1)), headers=TUS)

    assert answer.status_code == 405
    assert "PATCH" in answer.headers["Allow"]


def test_an_expired_upload_is_gone(portal: Portal, client: httpx.Client) -> None:
    with portal.store() as store:
        processor = UploadProcessor(
            store, data_dir=portal.data_dir, limits=Limits(disk_reserve_bytes=0, expiry=-Limits().expiry)
        )
        upload = processor.open_upload(user=OWNER, path="old.tif", length_bytes=5)

    answer = sent(client, f"/api/uploads/{upload.upload_id}", 0, b"ab")

    assert answer.status_code == 410
    with portal.store() as store:
        UploadProcessor(store, data_dir=portal.data_dir).tend()
    assert client.head(f"/api/uploads/{upload.upload_id}", headers=TUS).status_code == 404


# -- who may -------------------------------------------------------------------------------------


def test_a_foreign_upload_looks_like_an_unknown_one(portal: Portal, client: httpx.Client) -> None:
    with portal.store() as store:
        processor = UploadProcessor(store, data_dir=portal.data_dir, limits=Limits(disk_reserve_bytes=0))
        foreign = processor.open_upload(user="bob@example.org", path="b.tif", length_bytes=5)
    data = portal.data_dir / "uploads" / foreign.upload_id / "data"

    def tried(upload_id: str) -> list[tuple[int, str]]:
        place = f"/api/uploads/{upload_id}"
        answers = [
            client.head(place, headers=TUS),
            sent(client, place, 0, b"abcde"),
            client.delete(place, headers=TUS),
        ]
        return [(answer.status_code, answer.text) for answer in answers]

    assert tried(foreign.upload_id) == tried("0" * 32)
    assert [status for status, _ in tried(foreign.upload_id)] == [404, 404, 404]
    assert data.read_bytes() == b""


def test_a_foreign_data_set_takes_no_upload(portal: Portal, client: httpx.Client) -> None:
    from scientistcloud.datasets import catalogue

    with portal.store() as store:
        foreign = catalogue.open_dataset(store, user="bob@example.org", name="bob's")

    answers = [opened(client, 1, dataset=uuid) for uuid in (foreign.uuid, "0" * 32)]

    assert [answer.status_code for answer in answers] == [404, 404]


@pytest.mark.parametrize("token", [None, "wrong", TOKEN + "x", TOKEN[:-1], "Ã¤"])
def test_whoever_is_not_logged_in_never_writes_a_byte(
    portal: Portal, client: httpx.Client, token: str | None
) -> None:
    answer = opened(client, 5)
    data = portal.data_dir / "uploads" / location(answer).rsplit("/", 1)[-1] / "data"
    folders = portal.uploads()
    headers = {key: value for key, value in BYTES.items() if key != "Authorization"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    raw = {key.encode(): value.encode("latin-1") for key, value in headers.items()}

    patch = client.patch(location(answer), headers=raw | {b"Upload-Offset": b"0"}, content=b"evil!")
    post = client.post(
        "/api/uploads/",
        headers=raw | {b"Upload-Length": b"5", b"Upload-Metadata": encode({"filename": "e"}).encode()},
        content=b"evil!",
    )
    delete = client.delete(location(answer), headers=raw)

    assert [each.status_code for each in (patch, post, delete)] == [401, 401, 401]
    assert data.read_bytes() == b""
    assert portal.uploads() == folders


def test_a_page_of_another_site_cannot_upload_with_our_cookie(portal: Portal, client: httpx.Client) -> None:
    with portal.store() as store:
        cookie, session = tokens.open_session(store, Person(email=OWNER))
        name = f"scientistcloud-{store.meta.installation_id()[:8]}"
    place = location(opened(client, 5))
    ours = {"Cookie": f"{name}={cookie}", "Tus-Resumable": "1.0.0"}
    body = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}

    without = client.patch(place, headers=ours | body, content=b"evil!")
    elsewhere = client.patch(
        place,
        headers=ours | body | {"X-CSRF-Token": session.csrf_token, "Sec-Fetch-Site": "cross-site"},
        content=b"evil!",
    )
    assert [without.status_code, elsewhere.status_code] == [403, 403]
    assert client.head(place, headers=ours).headers["Upload-Offset"] == "0"

    own = client.patch(place, headers=ours | body | {"X-CSRF-Token": session.csrf_token}, content=b"abcde")

    assert own.status_code == 204


# -- several at once -----------------------------------------------------------------------------


def started_patch(portal: Portal, place: str, offset: int, *, length: int, first: bytes) -> socket.socket:
    """A PATCH of `length` bytes that has sent `first` and goes on when its test does."""
    line = socket.create_connection(("127.0.0.1", portal.port), timeout=60)
    headers = BYTES | {"Upload-Offset": str(offset), "Content-Length": str(length)}
    text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    line.sendall(f"PATCH {place} HTTP/1.1\r\nHost: 127.0.0.1:{portal.port}\r\n{text}\r\n".encode() + first)
    return line


def wait_for(condition: object, seconds: float = 60) -> None:
    import time

    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def test_the_newest_of_two_writers_wins(portal: Portal, client: httpx.Client) -> None:
    size = 12 * 2**20
    answer = opened(client, size)
    data = portal.data_dir / "uploads" / location(answer).rsplit("/", 1)[-1] / "data"
    older = started_patch(portal, location(answer), 0, length=size, first=b"X" * (9 * 2**20))
    wait_for(lambda: data.stat().st_size >= 4 * 2**20)

    newer = started_patch(portal, location(answer), 0, length=size, first=b"n" * (6 * 2**20))
    wait_for(lambda: data.read_bytes()[:1] == b"n")
    with older:
        older.sendall(b"Y" * (3 * 2**20))
        response = http.client.HTTPResponse(older)
        response.begin()
    with newer:
        newer.sendall(b"n" * (6 * 2**20))
        done = http.client.HTTPResponse(newer)
        done.begin()

    assert response.status == 503  # it may ask for the offset and go on; here it finds the upload complete
    assert done.status == 204
    assert portal.source(answer.headers["Dataset-UUID"], "scan.tif") == b"n" * size
    assert len(portal.jobs_of(answer.headers["Dataset-UUID"])) == 1


def test_the_newest_writer_wins_across_two_processes_too(portal: Portal, client: httpx.Client) -> None:
    size = 12 * 2**20
    answer = opened(client, size)
    place = location(answer)
    data = portal.data_dir / "uploads" / place.rsplit("/", 1)[-1] / "data"
    other = Portal(portal.data_dir, portal.settings)
    other.start()
    try:
        older = started_patch(portal, place, 0, length=size, first=b"X" * (9 * 2**20))
        wait_for(lambda: data.stat().st_size >= 4 * 2**20)
        with other.client() as there:
            known = offset_of(there, place)
            assert sent(there, place, known, b"n" * (size - known)).status_code == 204  # beside the one that hangs
        with older:
            older.sendall(b"Y" * (3 * 2**20))
            response = http.client.HTTPResponse(older)
            response.begin()
    finally:
        other.stop()

    assert response.status in (404, 503)
    assert portal.source(answer.headers["Dataset-UUID"], "scan.tif") == b"X" * known + b"n" * (size - known)
    assert len(portal.jobs_of(answer.headers["Dataset-UUID"])) == 1


def answers_meanwhile(
    client: httpx.Client, work: Callable[[], None], *, at_20: Callable[[], None] | None = None
) -> int:
    """How often the portal says that it lives while `work` waits for an answer; `at_20` is called at the 20th."""
    thread = threading.Thread(target=work)
    thread.start()
    answers = 0
    while thread.is_alive():
        assert client.get("/healthz").status_code == 200
        answers += thread.is_alive()
        if answers == 20 and at_20 is not None:
            at_20()
    thread.join()
    return answers


@pytest.mark.parametrize("stopped_for_good", [False, pytest.param(True, marks=pytest.mark.long)])
def test_the_portal_answers_while_a_request_waits_for_an_upload_that_is_held(
    portal: Portal, client: httpx.Client, stopped_for_good: bool
) -> None:
    """A process was stopped in the middle of a block: whoever takes over has to wait for it."""
    place = location(opened(client, 4))
    writer = portal.data_dir / "uploads" / place.rsplit("/", 1)[-1] / "writer"
    statuses: list[int] = []

    def take_over() -> None:
        with portal.client() as another:
            statuses.append(sent(another, place, 0, b"abcd").status_code)

    with writer.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        let_go = None if stopped_for_good else lambda: fcntl.flock(held, fcntl.LOCK_UN)
        answers = answers_meanwhile(client, take_over, at_20=let_go)

    assert answers >= 20
    assert statuses == [503 if stopped_for_good else 204]  # in passing, so never a 4xx
    known = offset_of(client, place)
    assert sent(client, place, known, b"abcd"[known:]).status_code == 204


def test_the_portal_answers_while_a_checksum_is_computed(portal: Portal, client: httpx.Client) -> None:
    content = random.Random(1).randbytes(32 * 2**20)
    place = location(opened(client, len(content)))
    digest = base64.b64encode(hashlib.sha1(content).digest()).decode()
    headers = BYTES | {"Upload-Offset": "0", "Upload-Checksum": f"sha1 {digest}"}

    def send() -> None:
        with portal.client(timeout=120) as another:
            assert another.patch(place, headers=headers, content=content).status_code == 204

    assert answers_meanwhile(client, send) >= 3
    assert offset_of(client, place) == len(content)


def test_the_portal_answers_while_eight_uploads_are_under_way(portal: Portal, client: httpx.Client) -> None:
    size = 6 * 2**20
    answers = [opened(client, size, name=f"{n}.tif") for n in range(8)]
    lines = [
        started_patch(portal, location(answer), 0, length=size, first=bytes([n]) * (size - 1))
        for n, answer in enumerate(answers)
    ]

    for _ in range(20):
        assert client.get("/healthz").status_code == 200
    for n, line in enumerate(lines):
        with line:
            line.sendall(bytes([n]))
            done = http.client.HTTPResponse(line)
            done.begin()
            assert done.status == 204

    for n, answer in enumerate(answers):
        assert portal.source(answer.headers["Dataset-UUID"], f"{n}.tif") == bytes([n]) * size


def test_many_small_uploads_at_once_each_make_their_own_data_set(portal: Portal, client: httpx.Client) -> None:
    uuids: list[str] = []

    def send(n: int) -> None:
        answer = opened(client, 100, name=f"{n}.tif")
        assert sent(client, location(answer), 0, bytes([n]) * 100).status_code == 204
        uuids.append(answer.headers["Dataset-UUID"])

    threads = [threading.Thread(target=send, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert len(set(uuids)) == 24
    assert all(len(portal.jobs_of(uuid)) == 1 for uuid in uuids)


# -- limits --------------------------------------------------------------------------------------


RACER = """
import sys
from pathlib import Path
from threading import Thread
from scientistcloud import UploadProcessor, open_store
from scientistcloud.errors import TooLarge
from scientistcloud.uploads.folder import Limits

folder = Path(sys.argv[1])
store = open_store(f"sqlite:///{folder / 'scientistcloud.db'}")
processor = UploadProcessor(store, data_dir=folder, limits=Limits(quota_bytes=1000, disk_reserve_bytes=0))

def race():
    try:
        processor.open_upload(user="ada", path="a.tif", length_bytes=600)
        said.append("opened")
    except TooLarge:
        said.append("refused")

said = []
print("ready", flush=True)
sys.stdin.readline()
threads = [Thread(target=race) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*said)
"""


def test_uploads_that_race_for_a_quota_do_not_take_the_same_room(tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path / 'scientistcloud.db'}").close()
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)  # two processes on one data folder
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"

    said = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        said += racer.communicate(timeout=120)[0].split()

    assert sorted(said) == ["opened"] + ["refused"] * 7


def test_what_exceeds_a_limit_is_told_when_an_upload_is_opened(tmp_path: Path) -> None:
    portal = Portal(
        tmp_path,
        {
            "SCIENTISTCLOUD_QUOTA_BYTES": "1000",
            "SCIENTISTCLOUD_MAX_OPEN_UPLOADS": "2",
            "SCIENTISTCLOUD_DISK_RESERVE_BYTES": "0",
        },
    )
    portal.start()
    try:
        with portal.client() as client:
            first = opened(client, 600)
            refused = opened(client, 500)
            assert refused.status_code == 413
            assert "400 are left of your 1000" in refused.json()["detail"]
            second = opened(client, 3)
            refused = opened(client, 3)
            assert (refused.status_code, refused.json()["error"]) == (429, "TooMany")
            client.delete(location(second), headers=TUS)
            sent(client, location(first), 0, bytes(600))
            assert opened(client, 401).status_code == 413
            assert opened(client, 300).status_code == 201
            assert opened(client, 100).status_code == 201
            assert len(portal.uploads()) == 2
            assert opened(client, 0).status_code == 429
    finally:
        portal.stop()
