"""The way out for programs that look names up and follow redirects by themselves: a proxy that lets through what a
guard allows.

It speaks CONNECT and plain HTTP, to whoever shows its password, and resolves each name itself.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from scientistcloud.errors import ScientistCloudError
from scientistcloud.uploads.addresses import Guard

_HEAD_BYTES = 64 << 10
_BLOCK_BYTES = 256 << 10
_CONNECT_SECONDS = 30.0
_IDLE_SECONDS = 600.0
_HOP_BY_HOP = (b"proxy-", b"connection:", b"keep-alive:")


@dataclass
class Proxy:
    """A proxy that runs: its address, and what it refused."""

    #: With the password, for the program that is to use it.
    url: str
    refused: list[ScientistCloudError] = field(default_factory=list)


@contextmanager
def a_proxy(guard: Guard) -> Iterator[Proxy]:
    """A proxy on loopback, for as long as the block lasts."""
    password = secrets.token_urlsafe(24)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(f"http://x:{password}@127.0.0.1:{listener.getsockname()[1]}")
        expected = b"Basic " + base64.b64encode(f"x:{password}".encode())
        open_ones: set[socket.socket] = set()

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return  # the block ended
                open_ones.add(client)
                threading.Thread(target=see_through, args=(client,), daemon=True).start()

        def see_through(client: socket.socket) -> None:
            try:
                with client:
                    client.settimeout(_IDLE_SECONDS)
                    _serve(client, guard, proxy, expected)
            except (OSError, ValueError):
                pass  # who broke off is no news here
            finally:
                open_ones.discard(client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for client in list(open_ones):
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)


def _serve(client: socket.socket, guard: Guard, proxy: Proxy, expected: bytes) -> None:
    head, rest = _head_of(client)
    line, *headers = head.split(b"\r\n")
    method, target, _version = line.split(b" ", 2)
    shown = next((each.partition(b":")[2].strip() for each in headers if _named(each, b"proxy-authorization")), b"")
    if not secrets.compare_digest(shown, expected):
        return _say(client, "407 Proxy Authentication Required", "show the password")
    tunnel = method == b"CONNECT"
    where = urlsplit(f"//{target.decode('ascii')}" if tunnel else target.decode("ascii"))
    if where.hostname is None or (not tunnel and where.scheme != "http"):
        return _say(client, "400 Bad Request", "CONNECT HOST:PORT, or http://")
    try:
        server = guard.connect(
            where.hostname, where.port or (443 if tunnel else 80), timeout_seconds=_CONNECT_SECONDS
        )
    except ScientistCloudError as refused:
        proxy.refused.append(refused)
        return _say(client, "403 Forbidden", str(refused))
    except OSError as failed:
        return _say(client, "502 Bad Gateway", failed.strerror or "no answer")
    with server:
        server.settimeout(_IDLE_SECONDS)
        if tunnel:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            server.sendall(rest)
            _relay(client, server)
        else:
            path = (where.path or "/") + (f"?{where.query}" if where.query else "")
            asked = [method + b" " + path.encode() + b" HTTP/1.1", *headers]
            server.sendall(_closing(asked) + rest)
            _relay(client, server, plain=True)
    return None


def _closing(lines: list[bytes]) -> bytes:
    """A head whose connection ends with what it begins: a client that kept it would find it closed."""
    kept = [each for each in lines if not each.lower().startswith(_HOP_BY_HOP)]
    return b"\r\n".join([*kept, b"Connection: close", b"", b""])


def _pass_answer(server: socket.socket, client: socket.socket) -> None:
    """The head of the server's answer, and what came of its body: the rest is carried as it is."""
    rest = b""
    while True:
        head, rest = _head_of(server, rest)
        line, *headers = head.split(b"\r\n")
        if not line.split(b" ", 2)[1].startswith(b"1"):
            client.sendall(_closing([line, *headers]) + rest)
            return
        client.sendall(head + b"\r\n\r\n")  # "100 Continue": the answer itself is yet to come


def _head_of(talker: socket.socket, data: bytes = b"") -> tuple[bytes, bytes]:
    """The lines up to the first empty one, and what came behind them; `data` came before."""
    while b"\r\n\r\n" not in data:
        block = talker.recv(_HEAD_BYTES)
        if not block or len(data) > _HEAD_BYTES:
            raise ValueError("neither a request nor an answer")
        data += block
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _relay(client: socket.socket, server: socket.socket, *, plain: bool = False) -> None:
    """Carry bytes both ways, until the server has said everything; `plain`: in HTTP."""

    def carry(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(_BLOCK_BYTES):
                target.sendall(block)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    up = threading.Thread(target=carry, args=(client, server), daemon=True)
    up.start()
    if plain:
        with contextlib.suppress(OSError, ValueError, IndexError):
            _pass_answer(server, client)
    carry(server, client)
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RD)
    up.join()


def _named(header: bytes, name: bytes) -> bool:
    return header.partition(b":")[0].strip().lower() == name


def _say(client: socket.socket, status: str, text: str) -> None:
    body = text.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    if status.startswith("407"):
        head += 'Proxy-Authenticate: Basic realm="imports"\r\n'
    client.sendall(head.encode() + b"\r\n" + body)
