"""HTTP for imports: connections to checked addresses alone, redirects followed one by one."""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from scientistcloud.errors import UnreadableSource, UnsafeSource
from scientistcloud.uploads.addresses import Guard

TIMEOUT_SECONDS = 60.0
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 10
_PORTS = {"http": 80, "https": 443}

Sign = Callable[[SplitResult, Mapping[str, str]], Mapping[str, str]]
"""Headers for a request to an address that has headers already: what says who asks."""


class Broken(Exception):
    """It did not answer, or broke off: worth another try."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said; `read` gives the body."""

    status: int
    headers: Mapping[str, str]
    read: Callable[[int], bytes]


def nobody(_url: SplitResult, _headers: Mapping[str, str]) -> Mapping[str, str]:
    """Signs nothing."""
    return {}


@contextmanager
def get(url: str, *, shown: str, guard: Guard, headers: Mapping[str, str], sign: Sign = nobody) -> Iterator[Answer]:
    """What `url` answers, redirects followed. `shown` is what is said of it: it holds no secret.

    Raises `Broken` for what may pass, `UnsafeSource` where it leads somewhere that is not fetched from.
    """
    first = here = _plain(url, shown)
    for _ in range(_MOST_REDIRECTS):
        # Whoever asks is said to the one that was meant, and to nobody it sends us on to.
        signed = {**headers, **(sign(here, headers) if _origin(here) == _origin(first) else {})}
        connection = _connected(here, shown, guard)
        try:
            with _breaks(shown):
                connection.request("GET", _target(here), headers=signed)
                response = connection.getresponse()
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                with _breaks(shown):
                    yield Answer(response.status, _lower(response.headers), response.read)
                return
        finally:
            connection.close()
        there = _plain(urljoin(here.geturl(), location), shown)
        if here.scheme == "https" and there.scheme != "https":
            raise UnsafeSource(f"{shown} sends on to an address without TLS, which is not followed")
        here = there
    raise UnreadableSource(f"{shown} sends on more than {_MOST_REDIRECTS} times; check the address")


def _plain(url: str, shown: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        port, parts = None, SplitResult("", "", "", "", "")
    if parts.scheme not in _PORTS or not parts.hostname or re.search(r"[\x00-\x20\x7f-\uffff]", url):
        raise UnsafeSource(f"{shown} sends on to something that is no plain HTTP address, which is not followed")
    del port
    return parts


def _connected(url: SplitResult, shown: str, guard: Guard) -> http.client.HTTPConnection:
    host = url.hostname or ""
    port = url.port or _PORTS[url.scheme]
    with _breaks(shown):
        sock = guard.connect(host, port, timeout_seconds=TIMEOUT_SECONDS)
        try:
            if url.scheme == "https":
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    if url.scheme == "https":
        connection.default_port = _PORTS["https"]  # else the Host header names it
    connection.sock = sock
    connection.auto_open = 0  # it would look the name up again
    return connection


@contextmanager
def _breaks(shown: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as failed:
        raise UnreadableSource(f"{shown} cannot show that it is what it says: {failed.verify_message}") from failed
    except http.client.IncompleteRead as failed:
        raise Broken("it broke off") from failed
    except http.client.HTTPException as failed:
        raise Broken(f"it does not speak HTTP ({type(failed).__name__})") from failed
    except TimeoutError as failed:
        raise Broken("it did not answer in time") from failed
    except OSError as failed:
        raise Broken(failed.strerror or str(failed) or type(failed).__name__) from failed


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or _PORTS.get(url.scheme)


def _target(url: SplitResult) -> str:
    return (url.path or "/") + (f"?{url.query}" if url.query else "")


def _lower(headers: http.client.HTTPMessage) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def name_of(answer: Answer, url: str) -> str:
    """What the file is called: as the server says, else as its address ends; "" where neither says."""
    said = answer.headers.get("content-disposition", "")
    if extended := re.search(r"filename\*\s*=\s*utf-8''([^;]+)", said, re.IGNORECASE):
        return unquote(extended[1].strip()).rpartition("/")[2]
    if plain := re.search(r'filename\s*=\s*("([^"]*)"|[^;]+)', said, re.IGNORECASE):
        return (plain[2] or plain[1]).strip().rpartition("/")[2]
    return unquote(urlsplit(url).path.rpartition("/")[2])


def refused(answer: Answer, shown: str) -> UnreadableSource | Broken:
    """Why there is no body: for ever, or to be tried again."""
    status = answer.status
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in (
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.CONFLICT,
        HTTPStatus.LOCKED,
        HTTPStatus.TOO_EARLY,
    ):
        return Broken(f"it answered {status}")
    body = answer.read(4096).decode(errors="replace")
    code = re.search(r"<Code>(\w{1,60})</Code>", body)
    said = f"{status}{f' {code[1]}' if code else ''}"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return UnreadableSource(f"{shown} may not be read ({said}); give a credential that may")
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return UnreadableSource(f"there is nothing at {shown} ({said}); check the address")
    return UnreadableSource(f"{shown} answered {said}; check the address")
