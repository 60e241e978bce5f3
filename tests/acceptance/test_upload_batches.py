"""Many small files in one tar, over real HTTP: whole or not at all, with the syncs of one file."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from intake_site import BEARER, OWNER, QUOTA_BYTES, Portal

from requirements import unavailable
from scientistcloud.datasets import catalogue
from scientistcloud.uploads import batch
from scientistcloud.uploads.folder import Limits
from scientistcloud.uploads.processor import UploadProcessor

FILES = {f"scan {n // 50}/{n:03}.tif": bytes([n % 256]) * (n * 7) for n in range(300)}


def packed(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def opened(owner: httpx.Client) -> str:
    return str(owner.post("/api/datasets", json={"name": "scan"}).json()["uuid"])


def put(owner: httpx.Client, uuid: str, content: bytes | Iterator[bytes]) -> httpx.Response:
    return owner.put("/api/uploads/batch", params={"dataset": uuid}, content=content)


def files_of(owner: httpx.Client, uuid: str) -> dict[str, str | None]:
    answer = owner.get(f"/api/datasets/{uuid}/files", params={"limit": 10_000})
    return {file["path"]: file["sha256"] for file in answer.json()["files"]}


def test_a_batch_puts_each_file_in_its_place_with_its_digest(portal: Portal, owner: httpx.Client) -> None:
    uuid = opened(owner)

    answer = put(owner, uuid, packed(FILES))

    total = sum(map(len, FILES.values()))
    assert answer.json() == {"dataset_uuid": uuid, "files": 300, "size_bytes": total}
    assert files_of(owner, uuid) == {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()}
    assert all(portal.source(uuid, path) == content for path, content in FILES.items())
    assert owner.get(f"/api/datasets/{uuid}").json()["size_bytes"] == total
    assert portal.jobs_of(uuid) == []
    owner.post(f"/api/datasets/{uuid}/close")
    assert portal.jobs_of(uuid) == [f"convert:{uuid}:1"]


def test_a_batch_of_unknown_length_and_a_second_one_replace_and_add(portal: Portal, owner: httpx.Client) -> None:
    uuid = opened(owner)
    content = packed({"a.tif": b"old", "b.tif": b"b"})
    put(owner, uuid, (content[start : start + 100] for start in range(0, len(content), 100)))

    put(owner, uuid, packed({"a.tif": b"new", "c.tif": b"c"}))

    assert sorted(files_of(owner, uuid)) == ["a.tif", "b.tif", "c.tif"]
    assert portal.source(uuid, "a.tif") == b"new"


def test_a_folder_is_sent_by_tar_and_curl_alone(portal: Portal, owner: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "a.tif").write_bytes(b"abc")
    address = f"{portal.url}/api/uploads/batch?name=by%20curl"

    if shutil.which("curl") is None:
        unavailable("curl", "apt-get install curl")
    said = subprocess.run(
        f"tar -c -C {tmp_path} scan | curl -sS -H 'Authorization: {BEARER['Authorization']}' -T - '{address}'",
        shell=True, capture_output=True, text=True, check=True,
    )  # fmt: skip

    uuid = json.loads(said.stdout)["dataset_uuid"]
    assert portal.source(uuid, "scan/a.tif") == b"abc"
    assert owner.get(f"/api/datasets/{uuid}").json()["name"] == "by curl"
    assert portal.jobs_of(uuid) == [f"convert:{uuid}:1"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"good.tif": b"g", "../up.tif": b"u"}, "'../up.tif'"),
        ({"good.tif": b"g", "large.tif": bytes(2**20 + 1)}, "upload it by itself"),
        ({"good.tif": b"g", "good.tif/inside": b"i"}, "as a file and as a folder"),
        ({"old": b"a file in the place of a folder"}, "has that name as a folder"),
        ({"old/a.tif/deeper": b"x"}, "has that name as a folder"),
        ({}, "no file"),
    ],
)
def test_a_batch_with_something_wrong_leaves_nothing(
    portal: Portal, owner: httpx.Client, files: dict[str, bytes], said: str
) -> None:
    uuid = opened(owner)
    put(owner, uuid, packed({"old/a.tif": b"old"}))

    answer = put(owner, uuid, packed(files))

    assert answer.status_code == 400
    assert said in answer.json()["detail"]
    assert sorted(files_of(owner, uuid)) == ["old/a.tif"]
    source = portal.data_dir / "datasets" / uuid / "source"
    assert [str(each.relative_to(source)) for each in source.rglob("*") if each.is_file()] == ["old/a.tif"]
    assert portal.uploads() == []


def test_a_name_that_comes_twice_is_refused(owner: httpx.Client) -> None:
    made = packed({"a.tif": b"1"})[:1024]

    answer = put(owner, opened(owner), made + packed({"a.tif": b"2"}))

    assert answer.status_code == 400
    assert "'a.tif' twice" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("said", "why"), [("dataset=%FF", "no UTF-8"), ("name=a&name=b", "name twice"), ("name=%FF", "no UTF-8")]
)
def test_an_address_that_cannot_be_understood_is_refused(owner: httpx.Client, said: str, why: str) -> None:
    answer = owner.put(f"/api/uploads/batch?{said}", content=packed({"a.tif": b"1"}))

    assert answer.status_code == 400, answer.text
    assert why in answer.json()["detail"]


def test_who_may_not_or_where_nothing_is_open_takes_no_batch(portal: Portal, owner: httpx.Client) -> None:
    closed = opened(owner)
    put(owner, closed, packed({"a.tif": b"a"}))
    owner.post(f"/api/datasets/{closed}/close")
    with portal.store() as store:
        foreign = catalogue.open_dataset(store, user="bob@example.org", name="bob's").uuid
    content = packed({"b.tif": b"b"})

    answers = [
        put(owner, closed, content),
        put(owner, foreign, content),
        owner.put("/api/uploads/batch", content=content),
        owner.put(
            "/api/uploads/batch", params={"dataset": closed}, content=content, headers={"Authorization": "x"}
        ),
        owner.post("/api/uploads/batch", params={"dataset": closed}, content=content),
    ]

    assert [answer.status_code for answer in answers] == [409, 404, 400, 401, 405]
    assert sorted(files_of(owner, closed)) == ["a.tif"]


def test_what_does_not_fit_is_told_before_it_is_sent(portal: Portal, owner: httpx.Client) -> None:
    uuid = opened(owner)
    with socket.create_connection(("127.0.0.1", portal.port), timeout=60) as line:
        head = "".join(
            f"{name}: {value}\r\n" for name, value in (BEARER | {"Content-Length": str(QUOTA_BYTES + 1)}).items()
        )
        line.sendall(f"PUT /api/uploads/batch?dataset={uuid} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n".encode())

        assert b" 413 " in line.recv(4096).split(b"\r\n")[0]


def test_a_batch_that_breaks_off_keeps_the_steps_that_were_done(
    portal: Portal, owner: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "STEP_FILES", 10)
    content = packed({f"{n:02}.tif": b"x" for n in range(25)})
    with portal.store() as store:
        processor = UploadProcessor(store, data_dir=portal.data_dir, limits=Limits(disk_reserve_bytes=0))
        dataset = catalogue.open_dataset(store, user=OWNER, name="steps")
        taken = processor.open_batch(dataset, user=OWNER, size_bytes=None)
        taken.write([content[: 24 * 1024 + 100]])
        taken.close()

    assert taken.files == 20
    assert sorted(files_of(owner, dataset.uuid)) == [f"{n:02}.tif" for n in range(20)]
    assert portal.uploads() == []


@pytest.mark.parametrize("crash", ["before the promise", "before the places", "in the middle of them"])
def test_a_batch_whose_process_died_is_finished_if_it_was_promised_and_dropped_if_not(
    portal: Portal, owner: httpx.Client, monkeypatch: pytest.MonkeyPatch, crash: str
) -> None:
    class Died(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Died

    with portal.store() as store:
        processor = UploadProcessor(store, data_dir=portal.data_dir, limits=Limits(disk_reserve_bytes=0))
        dataset = catalogue.open_dataset(store, user=OWNER, name="crash")
        taken = processor.open_batch(dataset, user=OWNER, size_bytes=None)
        with monkeypatch.context() as patch:
            if crash == "before the promise":
                patch.setattr(batch, "sync_disk", die)
            elif crash == "before the places":
                patch.setattr(taken, "_place", die)
            else:
                patch.setattr(store.datasets, "put_files", die)
            taken.write([packed({"a/1.tif": b"1", "2.tif": b"22"})])
            with pytest.raises(Died):
                taken.end()
        assert not batch.finish(processor.uploads, taken.upload.upload_id, place=processor._place_batch)  # it lives
        taken._held.__exit__(None, None, None)  # its process ends, and with it the lock

        processor.recover()

    expected = [] if crash == "before the promise" else ["2.tif", "a/1.tif"]
    assert sorted(files_of(owner, dataset.uuid)) == expected
    assert portal.uploads() == []
    if expected:
        assert portal.source(dataset.uuid, "2.tif") == b"22"
