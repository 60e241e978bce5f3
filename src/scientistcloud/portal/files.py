"""Files of a data set over HTTP: byte ranges, validators, and no way out of the folder.

Paths are opened part by part without following a link, so neither ``..`` nor a symbolic link that someone
put among the files leads anywhere else, also when it is swapped in meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from scientistcloud.errors import NotFound

BLOCK_BYTES = 2**20
"""Answers up to this size are read at once; longer ones are streamed in blocks of it."""


class Span(NamedTuple):
    """A part of a file: from `start` to before `stop`, in bytes."""

    start: int
    stop: int


def span_of(header: str | None, size: int) -> Span | None:
    """What a ``Range`` header asks for of a file of `size` bytes; None for the whole.

    One range of bytes is understood, suffixes too; anything else means the whole file, as RFC 9110 allows.
    Raises `ValueError` for a range that begins behind the end (416).
    """
    unit, _, wanted = (header or "").partition("=")
    first, dash, last = (part.strip() for part in wanted.partition("-"))
    if unit.strip().lower() != "bytes" or not dash or not _is_number(first) or not _is_number(last):
        return None
    if not first:
        if not last:
            return None
        if int(last) == 0 or size == 0:
            raise ValueError(header)
        return Span(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise ValueError(header)
    return Span(int(first), min(size, int(last) + 1) if last else size)


def _is_number(text: str) -> bool:
    return not text or (text.isascii() and text.isdecimal() and len(text) < 20)


def open_beneath(root: Path, parts: Sequence[str]) -> int:
    """A descriptor, the caller's to close, of the regular file at `parts` below `root`. Raises `NotFound`."""
    refused = NotFound(f"there is no file {'/'.join(parts)!r} here; the data set's page lists those that there are")
    if not parts or any(part in ("", ".", "..") or "/" in part or "\0" in part for part in parts):
        raise refused
    try:
        # Whoever runs the portal may have put the data folder itself behind a link.
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parts[:-1]:
            handle = _step(handle, part, os.O_DIRECTORY)
        handle = _step(handle, parts[-1], os.O_NONBLOCK)  # a FIFO must not make us wait
    except OSError as missing:
        if missing.errno in _NOTHING_THERE:
            raise refused from None
        raise
    except UnicodeEncodeError:
        raise refused from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise refused
    return handle


_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.EINVAL)


def _step(folder: int, part: str, flags: int) -> int:
    """Open `part` of `folder`, not following a link, and close `folder`."""
    try:
        return os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=folder)
    finally:
        os.close(folder)


def file_answer(
    root: Path,
    parts: Sequence[str],
    request: Request,
    *,
    media_type: str,
    headers: Mapping[str, str] | None = None,
    size_bytes: int | None = None,
) -> Response:
    """The file at `parts` below `root`, or the part of it that the request asks for; HEAD opens and no more.

    `size_bytes`: only its first so many bytes are there for anybody. Raises `NotFound`.
    """
    handle = open_beneath(root, parts)
    try:
        facts = os.fstat(handle)
        size = facts.st_size if size_bytes is None else min(size_bytes, facts.st_size)
        etag = f'"{facts.st_mtime_ns:x}-{size:x}-{facts.st_ino:x}"'
        modified = formatdate(facts.st_mtime, usegmt=True)
        sent = {
            "ETag": etag,
            "Last-Modified": modified,
            "Accept-Ranges": "bytes",
            "Content-Type": media_type,
            **(headers or {}),
        }
        if etag in [
            each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")
        ]:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=sent)
        if request.method == "HEAD":
            return Response(headers=sent | {"Content-Length": str(size)})
        unchanged = request.headers.get("if-range", etag) in (etag, modified)
        try:
            span = span_of(request.headers.get("range"), size) if unchanged else None
        except ValueError:
            return Response(
                status_code=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers={"Content-Range": f"bytes */{size}"}
            )
        status = HTTPStatus.OK if span is None else HTTPStatus.PARTIAL_CONTENT
        if span is not None:
            sent["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
        span = span or Span(0, size)
        if span.stop - span.start <= BLOCK_BYTES:
            return Response(os.pread(handle, span.stop - span.start, span.start), status_code=status, headers=sent)
        sent["Content-Length"] = str(span.stop - span.start)
        response = _Streamed(handle, span, status_code=status, headers=sent)
        handle = -1  # the stream closes it
        return response
    finally:
        if handle >= 0:
            os.close(handle)


class _Streamed(StreamingResponse):
    """A span of an open file, which it closes, also where the client was gone before the first block."""

    def __init__(self, handle: int, span: Span, **options: Any) -> None:
        super().__init__(_blocks(handle, span), **options)
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.close(self._handle)


async def _blocks(handle: int, span: Span) -> AsyncIterator[bytes]:
    at = span.start
    while at < span.stop:
        block = await run_in_threadpool(os.pread, handle, min(BLOCK_BYTES, span.stop - at), at)
        if not block:  # cut short meanwhile; the missing length tells the client
            return
        at += len(block)
        yield block
