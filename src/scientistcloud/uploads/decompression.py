"""Compressed streams read forward, in little memory whatever their headers ask for."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from typing import IO, Any, Protocol

from scientistcloud.uploads.archives import Kind

XZ_MEMORY_BYTES = 256 << 20
ZSTD_WINDOW_BYTES = 128 << 20
READ_BYTES = 256 << 10
_ZSTD_FED_BYTES = 1 << 10  # so much can become 32 MiB, and all of it comes at once


class Damaged(Exception):
    """The stream is not what it began as, or ends in its middle."""


class _Decompressor(Protocol):
    """What `bz2` and `lzma` offer: one stream, so many bytes of it at a time."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def decompressed(raw: IO[bytes], kind: Kind) -> IO[bytes]:
    """The stream behind `raw`, whose compression `kind` names; itself where there is none.

    Reading raises `Damaged` where it cannot go on, also where it ends before its end.
    """
    reader: io.RawIOBase
    match kind:
        case Kind.GZIP:
            reader = _Streams(raw, _Gzip)
        case Kind.BZIP2:
            reader = _Streams(raw, bz2.BZ2Decompressor)
        case Kind.XZ:
            reader = _Streams(raw, _xz)
        case Kind.ZSTD:
            reader = _Streams(raw, _Zstandard)
        case _:
            return raw
    return io.BufferedReader(reader, READ_BYTES)


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)


class _Gzip:
    """`zlib` in the manner of the others; it checks the trailer's sum and length itself."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _Zstandard:
    """`zstandard` in the manner of the others: its own streams do not notice that they end too early."""

    def __init__(self) -> None:
        import zstandard

        self._inner = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).decompressobj()
        self._error = zstandard.ZstdError
        self._input = self._output = memoryview(b"")

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof) and not self._output

    @property
    def needs_input(self) -> bool:
        return not self._input and not self._output

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data) + bytes(self._input)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if data:
            self._input = memoryview(bytes(self._input) + data)
        if not self._output and self._input and not self._inner.eof:
            fed, self._input = self._input[:_ZSTD_FED_BYTES], self._input[_ZSTD_FED_BYTES:]
            try:
                self._output = memoryview(self._inner.decompress(fed))
            except self._error as broken:
                raise Damaged(str(broken)) from broken
        out, self._output = self._output[:max_length], self._output[max_length:]
        return bytes(out)


class _Streams(io.RawIOBase):
    """Streams of one compression after another, as `cat` makes them."""

    def __init__(self, raw: IO[bytes], begin: Any) -> None:
        self._raw, self._begin = raw, begin
        self._inner: _Decompressor = begin()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._next(len(buffer))
        except (zlib.error, lzma.LZMAError, EOFError, OSError) as broken:
            if isinstance(broken, OSError) and broken.errno is not None:
                raise  # the disk's, not bz2's
            raise Damaged(str(broken) or "it cannot be decompressed") from broken
        buffer[: len(block)] = block
        return len(block)

    def _next(self, count: int) -> bytes:
        while True:
            data = b""
            if self._inner.eof:
                data = self._inner.unused_data.lstrip(b"\0")
                while not data:
                    block = self._raw.read(READ_BYTES)
                    if not block:
                        return b""
                    data = block.lstrip(b"\0")  # padding between two streams
                self._inner = self._begin()
            elif self._inner.needs_input:
                data = self._raw.read(READ_BYTES)
                if not data:
                    raise EOFError("it ends in the middle")
            block = self._inner.decompress(data, count)
            if block:
                return block
