"""A file by ranged reads: after a break it goes on where it was, also in another process."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from http import HTTPStatus

from scientistcloud.errors import InvalidParameters, Unavailable, UnreadableSource
from scientistcloud.layout import source_path
from scientistcloud.tasks.fetching.part import Part
from scientistcloud.tasks.fetching.room import Room
from scientistcloud.tasks.fetching.web import Answer, Broken, refused
from scientistcloud.uploads.tree import Written

BLOCK_BYTES = 1 << 20
_TRIES = 8  # without a byte in between
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 20.0

Open = Callable[[Mapping[str, str]], AbstractContextManager[Answer]]
"""The file, asked for with some headers more."""
Say = Callable[[int, int | None, str], None]
"""``say(bytes here, bytes in all if known, what is done)``."""


def fetch(
    open_: Open, part: Part, *, shown: str, room: Room, say: Say, name: Callable[[Answer], str] | None = None
) -> Written:
    """The whole file into `part`, however often it breaks off, unless it stops altogether.

    `name`: what the file is called, by its answer; None where its path is known. Raises `UnreadableSource`,
    `UnsafeSource`, `TooLarge`, `NoSpace`; `Unavailable` where nothing came of several tries.
    """
    failures = 0
    room.taken_bytes += part.offset_bytes
    while True:
        before = part.offset_bytes
        try:
            _go_on(open_, part, shown=shown, room=room, say=say, name=name)
            return part.end(lambda at: say(at, part.known.length_bytes, f"checking {part.known.path}"))
        except Broken as broken:
            failures = 1 if part.offset_bytes > before else failures + 1
            part.checkpoint()
            if failures > _TRIES:
                raise Unavailable(f"{shown} cannot be reached: {broken}; it is tried again later") from broken
            say(part.offset_bytes, part.known.length_bytes, f"waiting: {broken}")
            pause = min(_FIRST_PAUSE_SECONDS * 2.0**failures, _LONGEST_PAUSE_SECONDS)
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  jitter


def _go_on(
    open_: Open, part: Part, *, shown: str, room: Room, say: Say, name: Callable[[Answer], str] | None
) -> None:
    start, known = part.offset_bytes, part.known
    if start and known.validator is None:
        start = 0  # whether it is still the same file cannot be asked
    if known.length_bytes is not None and start == known.length_bytes and start:
        return
    headers = {"Accept-Encoding": "identity"}
    if start and known.validator is not None:
        headers |= {"Range": f"bytes={start}-", "If-Range": known.validator}
    with open_(headers) as answer:
        if answer.status == HTTPStatus.OK:
            room.taken_bytes -= part.offset_bytes
            part.begin(
                path=_checked_name(name(answer)) if name is not None else None,
                length_bytes=_length(answer),
                validator=_validator(answer),
            )
        elif answer.status == HTTPStatus.PARTIAL_CONTENT and start:
            _require_range(answer, start, known.length_bytes, shown)
        else:
            raise refused(answer, shown)
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise UnreadableSource(
                f"{shown} is sent compressed although that was not asked for; import it otherwise"
            )
        _take(answer, part, room=room, say=say)


def _take(answer: Answer, part: Part, *, room: Room, say: Say) -> None:
    length, path = part.known.length_bytes, part.known.path
    if length is not None:
        room.expect(length - part.offset_bytes, name=path, file_bytes=length)
    while block := answer.read(BLOCK_BYTES):
        part.write(block)
        room.add(len(block), name=path, file_bytes=part.offset_bytes)
        say(part.offset_bytes, length, f"fetching {path}")
    if length is not None and part.offset_bytes < length:
        raise Broken(f"it ended after {part.offset_bytes} of {length} bytes")


def _require_range(answer: Answer, start: int, length: int | None, shown: str) -> None:
    unit, _, said = answer.headers.get("content-range", "").partition(" ")
    span, _, total = said.partition("/")
    if unit.lower() != "bytes" or span.partition("-")[0] != str(start) or total not in ("*", str(length)):
        raise UnreadableSource(f"{shown} sent another part than it was asked for; begin the import again")


def _length(answer: Answer) -> int | None:
    said = answer.headers.get("content-length", "")
    if "transfer-encoding" in answer.headers or not (said.isascii() and said.isdecimal() and len(said) < 20):
        return None
    return int(said)


def _validator(answer: Answer) -> str | None:
    etag = answer.headers.get("etag", "")
    if etag.startswith('"'):
        return etag
    return answer.headers.get("last-modified")


def _checked_name(name: str) -> str:
    try:
        return source_path(name).name
    except InvalidParameters:
        return "download"
