"""Imports by the task itself, from servers on loopback that do what they can against it."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scientistcloud.errors import (
    NoSpace,
    ScientistCloudError,
    TooLarge,
    Unavailable,
    UnreadableSource,
    UnsafeSource,
)
from scientistcloud.tasks.contract import Outcome, Work
from scientistcloud.tasks.fetching import files, part, web
from scientistcloud.tasks.importing import ImportTask
from scientistcloud.uploads.addresses import Guard
from scientistcloud.uploads.remotes import remote_of
from web_site import Request, WebSite, a_file, a_web_site

CONTENT = bytes((n * n * 7919) % 251 for n in range(300_000))


@pytest.fixture
def site() -> Iterator[WebSite]:
    with a_web_site() as site:
        yield site


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_FIRST_PAUSE_SECONDS", 0.001)


def some_work(
    tmp_path: Path, url: str, *, token: int = 1, secret: dict[str, str] | None = None, **more: Any
) -> Work:
    report = more.pop("report", lambda _fraction, _step: None)
    output = tmp_path / f"partial.{token}"
    output.mkdir(parents=True, exist_ok=True)
    remote = remote_of(url, secret)
    allowed = {"import_private_addresses": True, "disk_reserve_bytes": 0} | more.pop("allowed", {})
    return Work(
        job_id="one",
        dataset_uuid="d",
        job_type="dataset_import",
        token=token,
        parameters={"remote": dict(remote.public), **more},
        source=tmp_path / "source",
        output=output,
        memory_bytes=1 << 30,
        report=report,
        keep=tmp_path / "kept",
        allowed=allowed,
        secret=dict(remote.secret),
    )


def fetched(work: Work) -> tuple[Outcome, dict[str, bytes]]:
    """What the import brought: the outcome, and the files, which are what its list says."""
    outcome = ImportTask().run(work)
    assert outcome.arrival is not None
    assert (outcome.arrival.at, outcome.arrival.kept) == ("", True)
    root = work.keep / outcome.arrival.folder
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    listed = [json.loads(line) for line in (work.keep / outcome.arrival.listing).read_text().splitlines()]
    assert {each["path"]: (each["size_bytes"], each["sha256"]) for each in listed} == {
        path: (len(content), hashlib.sha256(content).hexdigest()) for path, content in found.items()
    }
    return outcome, found


def refused(work: Work, kind: type[ScientistCloudError], *words: str) -> str:
    with pytest.raises(kind) as caught:
        ImportTask().run(work)
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


# -- it arrives ----------------------------------------------------------------------------------


def test_a_file_arrives_as_it_is(site: WebSite, tmp_path: Path) -> None:
    site.pages["/data/caf%C3%A9%20scan.tif"] = a_file(CONTENT)

    outcome, found = fetched(some_work(tmp_path, site.url("/data/caf%C3%A9%20scan.tif")))

    assert found == {"café scan.tif": CONTENT}
    assert (outcome.result["files"], outcome.result["size_bytes"]) == (1, len(CONTENT))


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ('attachment; filename="scan 7.tif"', "scan 7.tif"),
        ("attachment; filename=x.tif; filename*=UTF-8''gr%C3%B6%C3%9Fe.tif", "größe.tif"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename=".."', "download"),
    ],
)
def test_the_server_may_say_what_the_file_is_called_but_not_where_it_goes(
    site: WebSite, tmp_path: Path, said: str, name: str
) -> None:
    site.pages["/get"] = a_file(CONTENT, headers={"Content-Disposition": said})

    _, found = fetched(some_work(tmp_path, site.url("/get")))

    assert found == {name: CONTENT}


def test_a_server_that_breaks_off_is_asked_for_the_rest_alone(site: WebSite, tmp_path: Path) -> None:
    site.pages["/scan.tif"] = a_file(CONTENT, breaks_after=70_000)

    _, found = fetched(some_work(tmp_path, site.url("/scan.tif")))

    assert found == {"scan.tif": CONTENT}
    assert len(site.asked) == 5
    starts = [headers.get("range") for _, headers in site.asked]
    assert starts == [None, *(f"bytes={n * 70_000}-" for n in range(1, 5))]
    assert all(headers["if-range"] == '"one"' for _, headers in site.asked[1:])


def test_an_import_goes_on_inside_of_a_file_in_another_process(
    site: WebSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(_fraction: float, _step: str) -> None:
        if (tmp_path / "kept" / "files" / "scan.tif").stat().st_size >= 140_000:
            raise Killed

    monkeypatch.setattr(part, "CHECKPOINT_BYTES", 10_000)
    monkeypatch.setattr(files, "BLOCK_BYTES", 10_000)
    site.pages["/scan.tif"] = a_file(CONTENT)
    with pytest.raises(Killed):
        ImportTask().run(some_work(tmp_path, site.url("/scan.tif"), report=killed))
    # What lies beyond the checkpoint was promised to nobody, and is not believed.
    with (tmp_path / "kept" / "files" / "scan.tif").open("ab") as file:
        file.write(b"garbage" * 1000)

    _, found = fetched(some_work(tmp_path, site.url("/scan.tif"), token=2))

    assert found == {"scan.tif": CONTENT}
    assert site.asked[1][1]["range"] == "bytes=140000-"


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(site: WebSite, tmp_path: Path) -> None:
    other = CONTENT[::-1]
    first = a_file(CONTENT, breaks_after=70_000)

    def page(request: Request) -> None:
        (first if len(site.asked) == 1 else a_file(other, etag='"two"'))(request)

    site.pages["/scan.tif"] = page

    _, found = fetched(some_work(tmp_path, site.url("/scan.tif")))

    assert found == {"scan.tif": other}


def test_a_server_without_etags_is_not_trusted_to_have_the_same_file(site: WebSite, tmp_path: Path) -> None:
    broken, whole = a_file(CONTENT, etag=None, breaks_after=70_000), a_file(CONTENT, etag=None)
    site.pages["/scan.tif"] = lambda request: (broken if len(site.asked) == 1 else whole)(request)

    _, found = fetched(some_work(tmp_path, site.url("/scan.tif")))

    assert found == {"scan.tif": CONTENT}
    assert "range" not in site.asked[1][1]


def test_a_server_that_sends_another_part_than_asked_for_is_not_believed(site: WebSite, tmp_path: Path) -> None:
    first = a_file(CONTENT, breaks_after=70_000)

    def page(request: Request) -> None:
        if len(site.asked) == 1:
            return first(request)
        request.say(206, {"Content-Length": "5", "Content-Range": f"bytes 5-9/{len(CONTENT)}", "ETag": '"one"'})
        request.wfile.write(b"wrong")
        return None

    site.pages["/scan.tif"] = page

    refused(some_work(tmp_path, site.url("/scan.tif")), UnreadableSource, "another part than it was asked for")


def test_a_body_that_stays_shorter_than_it_says_is_no_file(site: WebSite, tmp_path: Path) -> None:
    def page(request: Request) -> None:
        request.say(200, {"Content-Length": "1000"})
        request.wfile.write(b"short")
        request.hang_up()

    site.pages["/scan.tif"] = page

    refused(some_work(tmp_path, site.url("/scan.tif")), Unavailable, "it ended after 5 of 1000 bytes")


def test_a_body_without_an_end_ends_at_the_limit(site: WebSite, tmp_path: Path) -> None:
    def page(request: Request) -> None:
        request.say(200, {"Transfer-Encoding": "chunked"})
        while True:
            request.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    site.pages["/endless"] = page

    quota = some_work(tmp_path, site.url("/endless"), limit_bytes=5 << 20)
    refused(quota, TooLarge, "goes on beyond the 5242880 bytes that are left")
    size = some_work(tmp_path, site.url("/endless"), allowed={"max_upload_bytes": 3 << 20}, token=2)
    refused(size, TooLarge, "goes on beyond the 3145728 bytes that a file may have")
    assert (tmp_path / "kept" / "files" / "endless").stat().st_size <= 7 << 20


def test_a_file_that_is_too_large_is_refused_before_it_comes(site: WebSite, tmp_path: Path) -> None:
    site.pages["/scan.tif"] = a_file(CONTENT)

    refused(some_work(tmp_path, site.url("/scan.tif"), limit_bytes=1000), TooLarge, "needs 300000 bytes, and 1000")
    refused(some_work(tmp_path, site.url("/scan.tif"), allowed={"disk_reserve_bytes": 1 << 60}), NoSpace, "no room")
    assert (tmp_path / "kept" / "files" / "scan.tif").stat().st_size == 0


@pytest.mark.parametrize(
    ("status", "kind", "word"),
    [
        (404, UnreadableSource, "there is nothing at"),
        (403, UnreadableSource, "may not be read"),
        (401, UnreadableSource, "may not be read"),
        (503, Unavailable, "it answered 503"),
        (429, Unavailable, "it answered 429"),
    ],
)
def test_what_a_server_refuses_for_ever_and_what_passes(
    site: WebSite, tmp_path: Path, status: int, kind: type[ScientistCloudError], word: str
) -> None:
    site.pages["/scan.tif"] = lambda request: request.say(status, {"Content-Length": "0"})

    refused(some_work(tmp_path, site.url("/scan.tif")), kind, word)
    assert len(site.asked) == (1 if kind is UnreadableSource else 9)


# -- who asks ------------------------------------------------------------------------------------


def test_login_and_query_are_sent_and_said_nowhere(site: WebSite, tmp_path: Path) -> None:
    def page(request: Request) -> None:
        request.say(403, {"Content-Length": "0"})

    site.pages["/scan.tif"] = page
    said: list[str] = []
    url = site.url("/scan.tif?X-Amz-Signature=hush").replace("http://", "http://ada:hush@")
    work = some_work(tmp_path, url, report=lambda _fraction, step: said.append(step))

    message = refused(work, UnreadableSource, "may not be read")

    path, headers = site.asked[0]
    assert path == "/scan.tif?X-Amz-Signature=hush"
    assert headers["authorization"] == "Basic YWRhOmh1c2g="
    assert "hush" not in message + json.dumps(dict(work.parameters)) + repr(work) + "".join(said)


def test_a_login_is_not_said_to_whom_the_server_sends_us_on(site: WebSite, tmp_path: Path) -> None:
    with a_web_site("127.0.0.2") as other:
        other.pages["/scan.tif"] = a_file(CONTENT)
        site.pages["/scan.tif"] = lambda request: request.say(
            302, {"Location": other.url("/scan.tif"), "Content-Length": "0"}
        )

        _, found = fetched(some_work(tmp_path, site.url("/scan.tif"), secret={"bearer": "hush"}))

    assert found == {"scan.tif": CONTENT}
    assert site.asked[0][1]["authorization"] == "Bearer hush"
    assert "authorization" not in other.asked[0][1]


# -- where it leads ------------------------------------------------------------------------------


def test_this_machine_is_not_fetched_from(site: WebSite, tmp_path: Path) -> None:
    site.pages["/secret"] = a_file(b"of this machine")
    allowed = {"import_private_addresses": False}

    for host in ("127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "127.1", "2130706433"):
        work = some_work(tmp_path, site.url("/secret", host=host), allowed=allowed)
        with pytest.raises((UnsafeSource, UnreadableSource)):
            ImportTask().run(work)
    assert site.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "127.0.0.53", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1", "fc00::1", "fd12::1", "ff02::1",
        "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:0001::", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    with pytest.raises(UnsafeSource, match="private network"):
        Guard().require("host", address)
    Guard(private=True).require("host", address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34"])
def test_public_addresses_are_fine(address: str) -> None:
    Guard().require("host", address)


def answers(monkeypatch: pytest.MonkeyPatch, *of_each_look: list[str]) -> list[str]:
    """A name server that says another thing at each look-up; the names it was asked for."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def looked_up(host: str, *more: Any, **how: Any) -> Any:
        if host != "rebound.example":
            return real(host, *more, **how)
        found = of_each_look[min(len(asked), len(of_each_look) - 1)]
        asked.append(host)
        return [entry for address in found for entry in real(address, *more, **how)]

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    return asked


def test_an_answer_that_changes_after_the_check_changes_nothing(
    site: WebSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebinding: the first look-up says an address that may be reached, the next this machine."""
    site.pages["/secret"] = a_file(b"of this machine")
    guard = Guard(also=[ipaddress.ip_network("127.0.0.2/32")])
    asked = answers(monkeypatch, ["127.0.0.2"], ["127.0.0.1"])

    url = site.url("/secret", host="rebound.example")
    # Nobody listens at the address that was checked, and no other is tried.
    with pytest.raises(web.Broken), web.get(url, shown=url, guard=guard, headers={}):
        pass

    assert len(asked) == 1
    assert site.asked == []


def test_a_name_with_one_bad_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, ["93.184.216.34", "127.0.0.1"])

    with pytest.raises(UnsafeSource, match=r"127\.0\.0\.1"):
        Guard().connect("rebound.example", 80, timeout_seconds=1)


@pytest.mark.parametrize(
    "lead",
    [
        lambda inner: inner.url("/secret"),
        lambda _: "file:///etc/passwd",
        lambda _: "gopher://127.0.0.1/",
        lambda inner: inner.url("/secret", host="localhost"),
    ],
)
def test_a_host_that_sends_us_on_to_this_machine_is_not_followed(
    site: WebSite, lead: Callable[[WebSite], str]
) -> None:
    site.pages["/secret"] = a_file(b"of this machine")
    with a_web_site("127.0.0.2") as outer:
        away = {"Location": lead(site), "Content-Length": "0"}
        outer.pages["/innocent"] = lambda request: request.say(302, away)
        guard = Guard(also=[ipaddress.ip_network("127.0.0.2/32")])
        url = outer.url("/innocent")

        with pytest.raises(UnsafeSource), web.get(url, shown=url, guard=guard, headers={}):
            pass

    assert len(outer.asked) == 1
    assert site.asked == []


def test_sending_on_and_on_ends(site: WebSite, tmp_path: Path) -> None:
    site.pages["/round"] = lambda request: request.say(302, {"Location": "/round", "Content-Length": "0"})

    refused(some_work(tmp_path, site.url("/round")), UnreadableSource, "more than 10 times")
    assert len(site.asked) == 10
