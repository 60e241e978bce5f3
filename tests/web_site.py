"""A web server on loopback that breaks off, lies, sends on and goes on for ever, as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class WebSite:
    """What it has, by path, and what it was asked for."""

    host: str = "127.0.0.1"
    #: Path -> what answers.
    pages: dict[str, Callable[[Request], None]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    def url(self, path: str, *, host: str | None = None) -> str:
        return f"http://{host or self.host}:{self.port}{path}"


class Request(BaseHTTPRequestHandler):
    """One request, with what pages need."""

    protocol_version = "HTTP/1.1"
    site: WebSite

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.site.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        try:
            page = self.site.pages[path]
        except KeyError:
            self.send_error(404)
        else:
            page(self)

    do_PROPFIND = do_GET  # noqa: N815  the library looks for this name

    def say(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@contextmanager
def a_web_site(host: str = "127.0.0.1") -> Iterator[WebSite]:
    site = WebSite(host)

    class Handler(Request):
        pass

    Handler.site = site
    server = ThreadingHTTPServer((host, 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who hung up is no news
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def a_file(
    content: bytes,
    *,
    etag: str | None = '"one"',
    breaks_after: int | None = None,
    headers: dict[str, str] | None = None,
    ranges: bool = True,
) -> Callable[[Request], None]:
    """A file that knows ranges; with `breaks_after` it hangs up after so many bytes of each answer."""

    def page(request: Request) -> None:
        start = 0
        asked, condition = request.headers.get("Range"), request.headers.get("If-Range")
        if asked and ranges and condition == etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        sent = {"Content-Length": str(len(content) - start), **(headers or {})}
        if etag:
            sent["ETag"] = etag
        if start:
            sent["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        request.say(206 if start else 200, sent)
        body = content[start:]
        if breaks_after is not None and len(body) > breaks_after:
            request.wfile.write(body[:breaks_after])
            request.hang_up()
        else:
            request.wfile.write(body)

    return page
