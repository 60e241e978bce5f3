"""A quarter of a GiB of zeros where the header promises a small picture: refused, and never in memory."""

from __future__ import annotations

import os
import signal
import struct
import warnings
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import netCDF4
import pytest
from photograph_files import chunk
from raw_tiff import picture
from raw_tiff import write as write_tiff

from scientistcloud.converters.registry import open_source
from scientistcloud.errors import UnreadableSource

SIDE = 64
BOMB_BYTES, MOST_BYTES = 256 << 20, 128 << 20  # libraries load meanwhile


@cache
def deflated() -> bytes:
    squeeze, block = zlib.compressobj(1), bytes(1 << 20)
    return b"".join(squeeze.compress(block) for _ in range(BOMB_BYTES >> 20)) + squeeze.flush()


@cache
def zstandard() -> bytes:
    return bytes(imagecodecs.zstd_encode(bytes(BOMB_BYTES), level=1))


def tiff(compression: int, body: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        tags = picture(SIDE, SIDE, strip=8, size=len(body()), compression=compression)
        return write_tiff(folder / "bomb.tif", tags, data=body())

    return make


def hdf5(folder: Path) -> Path:
    with h5py.File(folder / "bomb.h5", "w") as file:
        made = file.create_dataset("v", (SIDE, SIDE), "u1", chunks=(SIDE, SIDE), compression="gzip")
        made.id.write_direct_chunk((0, 0), deflated())
    return folder / "bomb.h5"


def netcdf(folder: Path) -> Path:
    file: Any
    with netCDF4.Dataset(folder / "bomb.nc", "w") as file:
        file.createDimension("y", SIDE)
        file.createDimension("x", SIDE)
        file.createVariable("v", "u1", ("y", "x"), zlib=True, shuffle=False, chunksizes=(SIDE, SIDE))[:] = 1
    with h5py.File(folder / "bomb.nc", "r+") as file:
        file["v"].id.write_direct_chunk((0, 0), deflated())
    return folder / "bomb.nc"


def png(folder: Path) -> Path:
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", deflated()) + chunk(b"IEND", b"")
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return folder / "bomb.png"


BOMBS: dict[str, Callable[[Path], Path]] = {
    "TIFF, deflate": tiff(8, deflated),
    "TIFF, zstandard": tiff(50000, zstandard),
    "HDF5": hdf5,
    "netCDF": netcdf,
    "PNG": png,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_goes_off_nowhere(bomb: str, tmp_path: Path) -> None:
    path = BOMBS[bomb](tmp_path)

    word, grown_bytes = ending(path)

    assert word == "" or "bomb" in word
    assert grown_bytes < MOST_BYTES


def ending(path: Path) -> tuple[str, int]:
    """What a process of its own says after reading it ("" where it could), and how much memory it took for that."""
    ear, mouth = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads are of no use to the child
        child = os.fork()
    if not child:
        try:
            signal.alarm(120)
            before_kib = memory_kib("VmRSS")
            word = read(path)
            os.write(mouth, f"{memory_kib('VmHWM') - before_kib} {word}".encode())
        finally:
            os._exit(0)
    os.close(mouth)
    with os.fdopen(ear, "rb") as said:
        grown_kib, _, word = said.read().decode().partition(" ")
    os.waitpid(child, 0)
    return word, int(grown_kib) << 10


def read(path: Path) -> str:
    try:
        reader = open_source(path)
        try:
            pixels = reader.read(0, (slice(0, SIDE), slice(0, SIDE)))
        finally:
            reader.close()
    except UnreadableSource as refused:
        return str(refused)
    assert pixels.shape == (SIDE, SIDE)
    return ""


def memory_kib(what: str) -> int:
    """`VmRSS`, what is held, or `VmHWM`, the most that ever was."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))
