"""Bytes over HTTP: ranges, validators, and no way out of a data set's folder."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from portal_site import BEARER, Site, running_site

CONTENT = bytes(range(256)) * 16  # 4 kB


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("portal")) as running:
        yield running


@pytest.fixture(scope="module")
def plain(site: Site) -> str:
    uuid = site.add_dataset("plain")
    site.add_file(uuid, "a.bin", CONTENT)
    return uuid


@pytest.fixture(scope="module")
def formed(site: Site, tmp_path_factory: pytest.TempPathFactory) -> str:
    source = tmp_path_factory.mktemp("source") / "field.tif"
    tifffile.imwrite(source, np.arange(300 * 200, dtype=np.uint16).reshape(300, 200))
    return site.add_form(source, token=3)


def test_a_whole_file_comes_as_it_is(site: Site, plain: str) -> None:
    with site.program() as client:
        answer = client.get(f"/data/{plain}/source/a.bin")

    assert answer.content == CONTENT
    assert answer.headers["accept-ranges"] == "bytes"


def test_an_uploaded_file_is_kept_from_running_as_a_page_of_ours(site: Site) -> None:
    uuid = site.add_dataset("page")
    site.add_file(uuid, "evil page “x”.html", b"<script>alert(1)</script>")
    with site.program() as client:
        answer = client.get(f"/data/{uuid}/source/evil page “x”.html")

    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (
        answer.headers["content-disposition"]
        == "attachment; filename*=UTF-8''evil%20page%20%E2%80%9Cx%E2%80%9D.html"
    )


@pytest.mark.parametrize(
    ("asked", "part", "told"),
    [
        ("bytes=0-9", CONTENT[:10], "bytes 0-9/4096"),
        ("bytes=100-", CONTENT[100:], "bytes 100-4095/4096"),
        ("bytes=-20", CONTENT[-20:], "bytes 4076-4095/4096"),
    ],
)
def test_a_part_can_be_asked_for(site: Site, plain: str, asked: str, part: bytes, told: str) -> None:
    with site.program() as client:
        answer = client.get(f"/data/{plain}/source/a.bin", headers={"Range": asked})

    assert answer.status_code == 206
    assert answer.content == part
    assert answer.headers["content-range"] == told


def test_a_part_behind_the_end_is_refused_with_the_size(site: Site, plain: str) -> None:
    with site.program() as client:
        answer = client.get(f"/data/{plain}/source/a.bin", headers={"Range": "bytes=4096-"})

    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */4096"


def test_head_tells_the_size_and_sends_nothing(site: Site, plain: str) -> None:
    with site.program() as client:
        answer = client.head(f"/data/{plain}/source/a.bin")

    assert answer.status_code == 200
    assert answer.headers["content-length"] == "4096"
    assert answer.content == b""


def test_what_has_not_changed_is_not_sent_again(site: Site, plain: str) -> None:
    path = f"/data/{plain}/source/a.bin"
    with site.program() as client:
        etag = client.get(path).headers["etag"]
        same = client.get(path, headers={"If-None-Match": etag})
        part_of_same = client.get(path, headers={"Range": "bytes=0-1", "If-Range": etag})
        part_of_another = client.get(path, headers={"Range": "bytes=0-1", "If-Range": '"another"'})

    assert same.status_code == 304
    assert part_of_same.status_code == 206
    assert part_of_another.status_code == 200
    assert part_of_another.content == CONTENT


def test_a_large_file_is_streamed_whole_and_in_parts(site: Site) -> None:
    content = os.urandom(5_000_001)
    uuid = site.add_dataset("large")
    site.add_file(uuid, "large.bin", content)
    with site.program() as client:
        whole = client.get(f"/data/{uuid}/source/large.bin").content
        part = client.get(f"/data/{uuid}/source/large.bin", headers={"Range": "bytes=1000-4000999"}).content

    assert whole == content
    assert part == content[1000:4_001_000]


def test_no_file_stays_open_when_the_reader_goes_away(site: Site) -> None:
    uuid = site.add_dataset("left")
    site.add_file(uuid, "large.bin", bytes(60_000_000))
    held = f"/datasets/{uuid}/source/large.bin"

    def open_now() -> list[str]:
        return [link for link in (_target(path) for path in Path("/proc/self/fd").iterdir()) if link.endswith(held)]

    for _ in range(3):
        with site.program() as client, client.stream("GET", f"/data/{uuid}/source/large.bin") as answer:
            next(answer.iter_raw())
    deadline = time.monotonic() + 20
    while open_now() and time.monotonic() < deadline:
        time.sleep(0.02)

    assert open_now() == []


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


@pytest.mark.parametrize(
    "path",
    [
        "source/../../../scientistcloud.db",
        "source/%2e%2e/%2e%2e/%2e%2e/scientistcloud.db",
        "source/..%2f..%2f..%2fscientistcloud.db",
        "source//etc/passwd",
        "source/%2fetc/passwd",
        "source/./a.bin",
        "source/a.bin/",
        "source/a.bin%00.txt",
        "source/link-to-file",
        "source/link-to-folder/secret",
        "source/pipe",
        "source",
        "source/",
        "source/folder",
        ".guard",
        ".guard.json",
        "partial.1/zarr.json",
        "converted.ome.zarr/../source/a.bin",
        "@1/../source/a.bin",
        f"source/{'x' * 300}",
        "source/%ff",
    ],
)
def test_nothing_leads_out_of_the_folders_that_are_served(site: Site, path: str) -> None:
    uuid = site.add_dataset("traps")
    site.add_file(uuid, "a.bin", CONTENT)
    source = site.settings.folder.dataset(uuid).source
    outside = site.settings.data_dir / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret").write_bytes(b"swordfish")
    (source / "link-to-file").symlink_to(outside / "secret")
    (source / "link-to-folder").symlink_to(outside)
    (source / "folder").mkdir()
    os.mkfifo(source / "pipe")

    status, body = raw_get(site, f"/data/{uuid}/{path}")

    assert status == 404
    assert b"swordfish" not in body
    assert b"SQLite" not in body


def raw_get(site: Site, target: str) -> tuple[int, bytes]:
    """A request with exactly this target: a client library would tidy it."""
    host, port = site.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        lines = [f"GET {target} HTTP/1.1", f"Host: {host}", f"Authorization: {BEARER['Authorization']}"]
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]


def test_a_publication_is_kept_by_browsers_for_ever_and_never_confused(site: Site, formed: str) -> None:
    with site.program() as client:
        now = client.get(f"/data/{formed}/@3/zarr.json")
        old = client.get(f"/data/{formed}/@2/zarr.json")
        named = client.get(f"/data/{formed}/converted.ome.zarr/zarr.json")

    assert "immutable" in now.headers["cache-control"]
    assert "private" in now.headers["cache-control"]
    assert now.json()["attributes"]["ome"]["version"] == "0.5"
    assert old.status_code == 404
    assert named.content == now.content
    assert named.headers["cache-control"] == "private, no-cache"


def test_the_viewer_gets_the_same_chunks_under_metadata_of_one_variable(site: Site, data: Path) -> None:
    uuid = site.add_form(data / "netcdf" / "eraint_uvz.nc")
    with site.program() as client:
        whole = client.get(f"/data/{uuid}/@1/zarr.json").json()["attributes"]["ome"]
        views = {name: client.get(f"/view-data/{uuid}/@1/{name}/zarr.json").json()["attributes"] for name in "zuv"}
        level = client.get(f"/data/{uuid}/@1/0/u/zarr.json")
        viewed = client.get(f"/view-data/{uuid}/@1/u/0/u/zarr.json")
        size = client.head(f"/view-data/{uuid}/@1/u/zarr.json").headers["content-length"]
        body = client.get(f"/view-data/{uuid}/@1/u/zarr.json").content
        unknown = client.get(f"/view-data/{uuid}/@1/w/zarr.json")

    assert [each["name"] for each in whole["multiscales"]] == ["z", "u", "v"]
    assert {name: [each["name"] for each in view["ome"]["multiscales"]] for name, view in views.items()} == {
        "z": ["z"],
        "u": ["u"],
        "v": ["v"],
    }
    assert viewed.content == level.content
    assert int(size) == len(body)
    assert unknown.status_code == 404


def test_the_preview_is_a_picture(site: Site, formed: str) -> None:
    with site.program() as client:
        answer = client.get(f"/data/{formed}/preview.webp")

    assert answer.headers["content-type"] == "image/webp"
    assert answer.content[8:12] == b"WEBP"
