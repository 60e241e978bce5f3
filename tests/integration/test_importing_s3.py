"""Imports from S3: the signature as AWS publishes it, objects and prefixes from a server on loopback."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from test_importing import CONTENT, fetched, refused, some_work

from scientistcloud.errors import InvalidParameters, TooLarge, UnreadableSource, UnsafeSource
from scientistcloud.tasks.fetching import s3 as s3_client
from scientistcloud.tasks.fetching.s3 import Keys, signed
from scientistcloud.uploads.remotes import remote_of
from web_site import WebSite, a_file, a_web_site

KEYS = {"access_key": "AKIAIOSFODNN7EXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}


def test_a_request_is_signed_as_aws_does_it() -> None:
    """The example "GET Object" of the page "Signature Calculations for the Authorization Header" of AWS."""
    headers = signed(
        urlsplit("https://examplebucket.s3.amazonaws.com/test.txt"),
        {"Range": "bytes=0-9"},
        keys=Keys(**KEYS),
        region="us-east-1",
        now=datetime(2013, 5, 24, tzinfo=UTC),
    )

    assert headers["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_a_list_is_signed_as_aws_does_it() -> None:
    """The example "List Objects" of the same page."""
    headers = signed(
        urlsplit("https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J"),
        {},
        keys=Keys(**KEYS),
        region="us-east-1",
        now=datetime(2013, 5, 24, tzinfo=UTC),
    )

    signature = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    assert headers["Authorization"].endswith(f"Signature={signature}")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server on loopback."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def put(s3: str, bucket: str, objects: dict[str, bytes]) -> None:
    with httpx.Client(base_url=s3) as client:
        client.put(f"/{bucket}").raise_for_status()
        for key, content in objects.items():
            client.put(f"/{bucket}/{key}", content=content).raise_for_status()


def from_s3(tmp_path: Path, s3: str, url: str, **more: Any) -> Any:
    return some_work(tmp_path, url, secret={**KEYS, "endpoint": s3}, **more)


def test_an_object_arrives(s3: str, tmp_path: Path) -> None:
    put(s3, "frames", {"day 1/caf\u00e9 scan.tif": CONTENT})

    _, found = fetched(from_s3(tmp_path, s3, "s3://frames/day%201/caf%C3%A9%20scan.tif"))

    assert found == {"caf\u00e9 scan.tif": CONTENT}


def test_all_below_a_prefix_arrives(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "_KEYS", 4)  # so that the list has several pages
    inside = {f"a {n}.tif": b"%d" % n for n in range(9)} | {"deep/b.tif": CONTENT}
    put(s3, "lists", {f"scan/{name}": content for name, content in inside.items()} | {"scanner/no.tif": b"no"})

    _, found = fetched(from_s3(tmp_path / "one", s3, "s3://lists/scan"))
    _, also_found = fetched(from_s3(tmp_path / "two", s3, "s3://lists/scan/"))

    assert found == also_found == inside


def test_an_import_of_many_goes_on_with_those_that_are_missing(s3: str, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def killed(_fraction: float, step: str) -> None:
        if "c.tif" in step:
            raise Killed

    put(s3, "many", {f"{name}.tif": name.encode() * 1000 for name in "abcd"})
    with pytest.raises(Killed):
        fetched(from_s3(tmp_path, s3, "s3://many", report=killed))
    (tmp_path / "kept" / "files" / "a.tif").stat()
    said: list[str] = []

    _, found = fetched(from_s3(tmp_path, s3, "s3://many", token=2, report=lambda _, step: said.append(step)))

    assert found == {f"{name}.tif": name.encode() * 1000 for name in "abcd"}
    assert {step.split(",")[0] for step in said} == {"fetching c.tif", "fetching d.tif"}


def test_what_is_too_much_is_refused_before_the_first_comes(s3: str, tmp_path: Path) -> None:
    put(s3, "big", {"a": b"1" * 600, "b": b"2" * 600})

    refused(from_s3(tmp_path, s3, "s3://big/", limit_bytes=1000), TooLarge, "needs 1200 bytes, and 1000")
    assert not list((tmp_path / "kept" / "files").iterdir())


def test_keys_that_no_folder_can_hold_are_refused_with_their_names(s3: str, tmp_path: Path) -> None:
    put(s3, "evil", {"x/a.tif": b"", "x/A.tif": b"", "x/b//c": b""})

    refused(from_s3(tmp_path, s3, "s3://evil/x/"), UnsafeSource, "'a.tif'", "b//c")


def test_a_bucket_that_is_not_there_says_so(s3: str, tmp_path: Path) -> None:
    refused(from_s3(tmp_path, s3, "s3://nowhere/a.tif"), UnreadableSource, "s3://nowhere", "404 NoSuchBucket")
    put(s3, "empty", {})
    refused(from_s3(tmp_path, s3, "s3://empty/x"), UnreadableSource, "no file at s3://empty/x")


def test_an_endpoint_that_breaks_off_is_asked_for_the_rest(tmp_path: Path) -> None:
    listing = (
        f"<ListBucketResult><Contents><Key>scan.tif</Key><Size>{len(CONTENT)}</Size></Contents></ListBucketResult>"
    )
    with a_web_site() as site:
        site.pages["/frames/"] = a_file(listing.encode())
        site.pages["/frames/scan.tif"] = a_file(CONTENT, breaks_after=100_000)

        _, found = fetched(from_s3(tmp_path, site.url(""), "s3://frames/scan.tif"))

    assert found == {"scan.tif": CONTENT}
    ranges = [headers.get("range") for path, headers in site.asked if path == "/frames/scan.tif"]
    assert ranges == [None, "bytes=100000-", "bytes=200000-"]
    assert all("Signature=" in headers["authorization"] for _, headers in site.asked)


@pytest.fixture
def site() -> Iterator[WebSite]:
    with a_web_site() as site:
        yield site


def test_an_endpoint_on_this_machine_is_not_asked(site: WebSite, tmp_path: Path) -> None:
    work = from_s3(tmp_path, site.url(""), "s3://frames/x", allowed={"import_private_addresses": False})

    refused(work, UnsafeSource, "private network")
    assert site.asked == []


@pytest.mark.parametrize(
    ("url", "fields", "word"),
    [
        ("file:///etc/passwd", {}, "file: is not fetched"),
        ("/etc/passwd", {}, "without a scheme"),
        ("ftp://host/x", {}, "ftp: is not fetched"),
        ("local:/etc", {}, "local: is not fetched"),
        ("https://", {}, "no host"),
        ("https://host:port/", {}, "host and port"),
        ("https://host/a b", {}, "blanks"),
        ("https://host/a#b", {}, "#"),
        ("s3://B/x", {}, "name of a bucket"),
        ("s3://bucket/x", {"endpoint": "file:///x"}, "plain address"),
        ("s3://bucket/x", {"access_key": "a"}, "belong together"),
        ("s3://bucket/x", {"env_auth": "true"}, "does not belong"),
        ("sftp://host/x", {"ssh": "sh -c evil"}, "does not belong"),
        ("gdrive:x", {"service_account": "{"}, "no JSON"),
    ],
)
def test_addresses_and_fields_that_are_not_taken(url: str, fields: dict[str, str], word: str) -> None:
    with pytest.raises(InvalidParameters, match=re.escape(word)):
        remote_of(url, fields)


def test_what_opens_a_source_is_taken_out_of_its_address() -> None:
    remote = remote_of("https://ada:h%40sh@[2001:db8::1]:8443/sc%C3%A4n.tif?token=hush", {"bearer": "b"})

    assert remote.public == {"kind": "web", "url": "https://[2001:db8::1]:8443/sc%C3%A4n.tif"}
    assert remote.secret == {"login": "ada", "password": "h@sh", "query": "token=hush", "bearer": "b"}
    assert remote.name == "sc\u00e4n.tif"
    assert "hush" not in repr(remote)
