"""A data set fetched whole: zips of any size that go on in the middle, and folders that are checked."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from portal_site import TOKEN, Site, running_site

from scientistcloud.client import Client
from scientistcloud.client import downloads as client_downloads
from scientistcloud.errors import NotFound, Unavailable
from scientistcloud.layout import CONVERTED
from scientistcloud.portal.zipping import Changed, Member, ZipStream
from scientistcloud.records import DatasetFile

FILES = {"a.tif": b"aaa", "scan 1/b.tif": bytes(3 * 2**20 + 7), "scan 1/größe 🔬.tif": b"", "z": b"\0" * 100}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("portal")) as running:
        yield running


@pytest.fixture
def uuid(site: Site) -> str:
    """A data set with files and a form, whose digests are known."""
    uuid = site.add_dataset("my/heart", forms=({"token": 7, "format": "OME-Zarr 0.5"},))
    for path, content in FILES.items():
        site.add_file(uuid, path, content)
    site.store.datasets.put_files(
        [
            DatasetFile(
                dataset_uuid=uuid, path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
            )
            for path, content in FILES.items()
        ]
    )
    form = site.settings.folder.dataset(uuid).root / CONVERTED
    for name, content in {"zarr.json": b"{}", "0/c/0": b"chunk" * 1000}.items():
        (form / name).parent.mkdir(parents=True, exist_ok=True)
        (form / name).write_bytes(content)
    return uuid


def unzipped(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {each.filename: archive.read(each) for each in archive.infolist()}


# -- the zip -------------------------------------------------------------------------------------


def stream_of(folder: Path, contents: list[bytes], checksums: dict[int, int] | None = None) -> ZipStream:
    for index, content in enumerate(contents):
        (folder / str(index)).write_bytes(content)
    return ZipStream(
        [Member(f"scan/{index}", len(content)) for index, content in enumerate(contents)],
        modified=datetime(2026, 5, 1, 12, 30, 8, tzinfo=UTC),
        open_member=lambda index: os.open(folder / str(index), os.O_RDONLY),
        checksums={} if checksums is None else checksums,
    )


@given(st.lists(st.binary(max_size=300), max_size=6), st.data())
def test_any_part_of_a_zip_is_that_part_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], data: Any
) -> None:
    known: dict[int, int] = {}
    stream = stream_of(tmp_path_factory.mktemp("zip"), contents, known)
    whole = b"".join(stream.blocks(0, stream.size_bytes))
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))

    assert len(whole) == stream.size_bytes
    assert list(unzipped(whole).values()) == contents
    assert b"".join(stream.blocks(start, stop)) == whole[start:stop]
    known.clear()  # another process goes on with it
    assert b"".join(stream.blocks(start, stop)) == whole[start:stop]


def test_a_file_that_changed_ends_the_zip(tmp_path: Path) -> None:
    stream = stream_of(tmp_path, [b"abc"])
    for changed in (b"ab", b"abcd"):
        (tmp_path / "0").write_bytes(changed)
        with pytest.raises(Changed, match="scan/0"):
            b"".join(stream.blocks(0, stream.size_bytes))


@pytest.mark.long
def test_a_zip_beyond_four_gibibytes_is_whole(tmp_path: Path) -> None:
    size = 4 * 2**30 + 12345
    with (tmp_path / "0").open("wb") as file:
        file.truncate(size)  # a hole: it takes no room
    (tmp_path / "1").write_bytes(b"after")
    stream = ZipStream(
        [Member("large", size), Member("after", 5)],
        modified=datetime.now(UTC),
        open_member=lambda index: os.open(tmp_path / str(index), os.O_RDONLY),
        checksums={},
    )
    with (tmp_path / "made.zip").open("wb") as made:
        for block in stream.blocks(0, stream.size_bytes):
            made.write(block)

    with zipfile.ZipFile(tmp_path / "made.zip") as archive:
        assert [each.file_size for each in archive.infolist()] == [size, 5]
        assert archive.read("after") == b"after"
        assert archive.testzip() is None


def test_the_files_as_they_came_are_one_zip_under_their_own_names(site: Site, uuid: str) -> None:
    with site.program() as client:
        answer = client.get(f"/data/{uuid}/source.zip")
        head = client.head(f"/data/{uuid}/source.zip")

        assert unzipped(answer.content) == FILES
        assert head.headers["Content-Length"] == answer.headers["Content-Length"] == str(len(answer.content))
        assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''my_heart%20source.zip"
        converted = unzipped(client.get(f"/data/{uuid}/converted.zip").content)
        assert converted == {f"{CONVERTED}/0/c/0": b"chunk" * 1000, f"{CONVERTED}/zarr.json": b"{}"}


def test_a_zip_goes_on_where_it_broke_unless_it_is_another_by_now(site: Site, uuid: str) -> None:
    address = f"/data/{uuid}/source.zip"
    with site.program() as client:
        whole = client.get(address)
        etag = whole.headers["ETag"]

        rest = client.get(address, headers={"Range": "bytes=3000000-", "If-Range": etag})
        behind = client.get(address, headers={"Range": f"bytes={len(whole.content)}-"})
        site.add_file(uuid, "new.tif", b"new")
        anew = client.get(address, headers={"Range": "bytes=3000000-", "If-Range": etag})

    assert (rest.status_code, rest.content) == (206, whole.content[3_000_000:])
    assert behind.status_code == 416
    assert anew.status_code == 200
    assert "new.tif" in unzipped(anew.content)


def test_what_is_not_there_is_said(site: Site) -> None:
    empty = site.add_dataset("empty")
    with site.program() as client:
        answers = [client.get(f"/data/{empty}/{name}.zip") for name in ("source", "converted")]
        answers.append(client.get(f"/api/datasets/{empty}/form"))

    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert "has no file yet" in answers[0].json()["detail"]


# -- the client ----------------------------------------------------------------------------------


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def client(site: Site) -> Iterator[Client]:
    with Client(server=site.url, token=TOKEN, patience_seconds=20) as client:
        yield client


def test_files_and_form_are_fetched_into_folders(client: Client, uuid: str, tmp_path: Path) -> None:
    seen: list[int] = []

    assert client.download(uuid, tmp_path / "files", on_bytes=seen.append) == 4
    assert client.download(uuid, tmp_path / "form", what="converted") == 2

    assert tree(tmp_path / "files") == FILES
    assert sum(seen) == sum(map(len, FILES.values()))
    assert tree(tmp_path / "form") == {f"{CONVERTED}/0/c/0": b"chunk" * 1000, f"{CONVERTED}/zarr.json": b"{}"}


def test_a_form_in_idx_is_fetched_with_its_blocks(site: Site, client: Client, uuid: str, tmp_path: Path) -> None:
    folder = site.settings.folder.dataset(uuid).root
    (folder / "converted.idx").write_bytes(b"(version)\n6")
    (folder / "converted" / "time0").mkdir(parents=True)
    (folder / "converted" / "time0" / "0000.bin").write_bytes(b"blocks")

    assert client.download(uuid, tmp_path, what="converted") == 4

    assert tree(tmp_path)["converted/time0/0000.bin"] == b"blocks"
    assert tree(tmp_path)["converted.idx"] == b"(version)\n6"


def test_what_is_there_is_not_fetched_again_and_what_is_spoilt_is(
    client: Client, uuid: str, tmp_path: Path
) -> None:
    client.download(uuid, tmp_path)
    kept = (tmp_path / "a.tif").stat().st_mtime_ns
    (tmp_path / "z").write_bytes(b"\1" * 100)  # of the right size
    (tmp_path / "scan 1" / "b.tif").unlink()
    (tmp_path / "scan 1" / "b.tif.part").write_bytes(FILES["scan 1/b.tif"][:1000])

    client.download(uuid, tmp_path)

    assert tree(tmp_path) == FILES
    assert (tmp_path / "a.tif").stat().st_mtime_ns == kept


def test_a_part_of_something_else_is_begun_anew(client: Client, uuid: str, tmp_path: Path) -> None:
    (tmp_path / "z.part").write_bytes(b"not these")

    client.download(uuid, tmp_path)

    assert tree(tmp_path) == FILES


def test_bytes_that_are_not_what_the_portal_says_are_refused(
    site: Site, client: Client, uuid: str, tmp_path: Path
) -> None:
    (site.settings.folder.dataset(uuid).source / "z").write_bytes(b"\1" * 100)  # a bad disk

    with pytest.raises(Unavailable, match="z does not have the SHA-256"):
        client.download(uuid, tmp_path)
    assert not (tmp_path / "z").exists()


def test_a_line_that_keeps_breaking_is_gone_on_with(
    client: Client, uuid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(4)
    whole = httpx.Response.iter_raw

    def breaking(self: httpx.Response, chunk_size: int | None = None) -> Iterator[bytes]:
        del chunk_size
        for block in whole(self, 64 * 1024):
            yield block
            if chance.random() < 0.1:
                raise httpx.ReadError("the line broke")

    monkeypatch.setattr(httpx.Response, "iter_raw", breaking)
    monkeypatch.setattr(client_downloads, "_LONGEST_PAUSE_SECONDS", 0.01)

    client.download(uuid, tmp_path / "files")
    client.download(uuid, tmp_path / "all.zip", as_zip=True)

    assert tree(tmp_path / "files") == FILES
    assert unzipped((tmp_path / "all.zip").read_bytes()) == FILES


def test_a_data_set_that_is_not_there_is_not_found(client: Client, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        client.download("never", tmp_path)


# -- the command ---------------------------------------------------------------------------------


def command(site: Site, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    token = cwd / "token"
    token.write_text(TOKEN)
    where = ("--server", site.url, "--token-file", token)
    return subprocess.run(
        [sys.executable, "-m", "scientistcloud", "datasets", *arguments, *where],
        capture_output=True, text=True, cwd=cwd, check=False,
    )  # fmt: skip


def test_the_owner_s_view_from_a_terminal(site: Site, uuid: str, tmp_path: Path) -> None:
    fetched = command(site, "download", uuid, cwd=tmp_path)
    assert (fetched.returncode, fetched.stdout) == (0, "my_heart\n"), fetched.stderr
    assert tree(tmp_path / "my_heart") == FILES
    zipped = command(site, "download", uuid, "--zip", "--converted", "--to", "form.zip", "--json", cwd=tmp_path)
    assert json.loads(zipped.stdout)["path"] == str(tmp_path / "form.zip")
    assert len(unzipped((tmp_path / "form.zip").read_bytes())) == 2

    assert uuid in command(site, "list", "--text", "heart", cwd=tmp_path).stdout
    shown = json.loads(command(site, "show", uuid, "--files", "--json", cwd=tmp_path).stdout)
    assert {file["path"] for file in shown["files"]} == set(FILES)
    assert "everybody" in command(site, "share", uuid, "--public", cwd=tmp_path).stdout
    shared = site.store.datasets.get(uuid)
    assert shared is not None
    assert shared.public

    deleted = command(site, "delete", uuid, cwd=tmp_path)
    assert f"datasets restore {uuid}" in deleted.stdout
    assert command(site, "show", uuid, cwd=tmp_path).returncode == 2
    assert uuid in command(site, "list", "--deleted", cwd=tmp_path).stdout
    assert command(site, "restore", uuid, cwd=tmp_path).returncode == 0
    assert command(site, "show", uuid, cwd=tmp_path).returncode == 0


def test_a_name_cannot_lead_out_of_the_folder(site: Site, tmp_path: Path) -> None:
    uuid = site.add_dataset("../../etc/passwd")
    site.add_file(uuid, "a.tif", b"a")
    inside = tmp_path / "inside"
    inside.mkdir()

    said = command(site, "download", uuid, cwd=inside)

    assert said.stdout == "_.._etc_passwd\n"
    assert tree(inside / "_.._etc_passwd") == {"a.tif": b"a"}
    before = site.store.datasets.get(uuid)
    assert before is not None
    site.store.datasets.update(before, replace(before, name="again"))
    (inside / "again").write_text("a file")
    refused = command(site, "download", uuid, cwd=inside)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
