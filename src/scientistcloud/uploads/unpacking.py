"""Archives, unpacked as if each was made to break us.

Nothing of the standard library decides where a file goes: the loop is ours. Links, devices, absolute names, ``..``,
names that are not plain and names that collide are refused with the offenders' names, and sizes are held to their
limits while the bytes stream. Whoever calls removes the folder when this raises: all or nothing.
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from scientistcloud.errors import NoSpace, TooLarge, UnreadableSource, UnsafeSource, UnsupportedSource
from scientistcloud.uploads.archives import OPENED, Kind, kind_of
from scientistcloud.uploads.decompression import READ_BYTES, Damaged, decompressed
from scientistcloud.uploads.tree import Names, Tree, Written

BLOCK_BYTES = 1 << 20
_NAMED = 10  # offenders in a message
_ALWAYS_FINE_BYTES = 16 << 20  # an entry of this size does no harm, however well it was compressed
_FINE_IN_ALL_BYTES = 256 << 20
_LOOK_BYTES = 64 << 20  # between two looks at what is left of the disk
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_ENCRYPTED = 0x1

Report = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may come out of one archive."""

    #: Of all files together; None: what the disk holds.
    max_bytes: int | None = None
    entries: int = 1_000_000
    #: Folders in each other.
    depth: int = 64
    #: Bytes that come out for each byte that is stored, of an entry of more than 16 MiB and of all together.
    ratio: float = 200
    #: Kept free of the disk.
    disk_reserve_bytes: int = 0


@dataclass(slots=True)
class _Meter:
    """Holds what comes out to the limits."""

    name: str
    limits: Limits
    tree: Tree
    archive_bytes: int
    size_bytes: int = 0
    entries: int = 0
    _looked_at: int = field(default=-_LOOK_BYTES)

    def entry(self) -> None:
        self.entries += 1
        if self.entries > self.limits.entries:
            raise TooLarge(
                f"{self.name} has more than {self.limits.entries} entries; split it, or ask the operator to raise "
                "ARCHIVE_MAX_ENTRIES"
            )

    def add(self, path: str, count: int, *, entry_bytes: int, stored_bytes: int) -> None:
        """`count` more bytes of the entry at `path`, `entry_bytes` with them, out of `stored_bytes`."""
        self.size_bytes += count
        most, ratio = self.limits.max_bytes, self.limits.ratio
        if most is not None and self.size_bytes > most:
            raise TooLarge(
                f"{self.name} unpacks to more than the {most} bytes that are left for it; delete data sets, or ask "
                "the operator"
            )
        if (entry_bytes > _ALWAYS_FINE_BYTES and entry_bytes > ratio * stored_bytes) or (
            self.size_bytes > _FINE_IN_ALL_BYTES and self.size_bytes > ratio * self.archive_bytes
        ):
            raise UnsafeSource(
                f"{self.name} unpacks to more than {ratio:g} times its size at {path!r}, as archives do that are "
                "made to fill disks; upload the files themselves, or ask the operator to raise ARCHIVE_MAX_RATIO"
            )
        if self.size_bytes - self._looked_at >= _LOOK_BYTES:
            self._looked_at = self.size_bytes
            self.require_room(0)

    def require_room(self, size_bytes: int) -> None:
        free, _ = self.tree.free_bytes()
        if free - size_bytes < self.limits.disk_reserve_bytes:
            raise NoSpace(f"the disk has no room for what {self.name} unpacks to; it is tried again")


class _Offenders:
    """What is wrong with entries, gathered so that one message names them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._found: list[str] = []
        self._number = 0

    def __bool__(self) -> bool:
        return self._number > 0

    @property
    def enough(self) -> bool:
        return self._number > _NAMED

    def add(self, what: str) -> None:
        self._number += 1
        if len(self._found) < _NAMED:
            self._found.append(what)

    def refuse(self) -> None:
        """Raise `UnsafeSource` where there is one."""
        if self._number:
            more = " and more" if self._number > len(self._found) else ""
            raise UnsafeSource(
                f"{self._name} was not unpacked: {'; '.join(self._found)}{more}; pack plain files and folders alone"
            )


def unpack(archive: Path, into: Path, *, limits: Limits, report: Report) -> Iterator[Written]:
    """Write the files of `archive` into the empty folder `into`; each, as it is written.

    Raises `SourceError` for an archive that is damaged, unsafe or of a kind that is not opened here, `TooLarge`
    beyond a limit, `NoSpace`.
    """
    tree = Tree(into)
    meter = _Meter(archive.name, limits, tree, archive.stat().st_size)
    try:
        match kind := kind_of(archive):
            case Kind.ZIP:
                files = _unpack_zip(archive, meter, report)
            case Kind.RAR | Kind.SEVEN_ZIP:
                raise UnsupportedSource(
                    f"{archive.name} is a {kind} archive, which is not opened here; pack its files as zip or tar"
                )
            case _:
                files = _unpack_tar(archive, kind, meter, report)
        empty = True
        for file in files:
            empty = False
            yield file
        if empty:
            raise UnreadableSource(f"{archive.name} holds no file; pack it again")
    finally:
        tree.close()


# -- zip -----------------------------------------------------------------------------------------


def _unpack_zip(archive: Path, meter: _Meter, report: Report) -> Iterator[Written]:
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = _checked_entries(opened, meter)
            total = sum(entry.file_size for entry in entries)
            meter.require_room(total)
            for entry in entries:
                yield meter.tree.write(entry.orig_filename, _blocks_of_zip(opened, entry, meter, total, report))
    except (zipfile.BadZipFile, EOFError, zlib.error, UnicodeDecodeError, NotImplementedError) as broken:
        raise UnreadableSource(f"{archive.name} is damaged ({broken}); pack and upload it again") from broken


def _checked_entries(opened: zipfile.ZipFile, meter: _Meter) -> list[zipfile.ZipInfo]:
    """The files, in the order in which they lie there, after every entry was found harmless."""
    offenders, names = _Offenders(meter.name), Names(depth=meter.limits.depth)
    files = []
    for entry in opened.infolist():
        meter.entry()
        # What it was called before the library mended it: it cuts names at NUL.
        name = entry.orig_filename
        folder = name.endswith("/")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            offenders.add(f"{name!r} is {_kind_of_mode(kind)}")
        elif entry.flag_bits & _ENCRYPTED:
            offenders.add(f"{name!r} is encrypted")
        elif entry.compress_type not in _METHODS:
            offenders.add(f"{name!r} is compressed by method {entry.compress_type}, which is not known here")
        elif not folder and not names.is_new(name) and names.check(name) is None:
            offenders.add(f"{name!r} is there twice")
        elif wrong := names.check(name[:-1] if folder else name, folder=folder):
            offenders.add(wrong)
        elif not folder:
            files.append(entry)
    files.sort(key=lambda entry: entry.header_offset)
    end = opened.start_dir
    for entry in reversed(files):
        # The least that an entry takes: its header, its name, its bytes.
        if entry.header_offset + 30 + len(entry.orig_filename) + entry.compress_size > end:
            offenders.add(f"{entry.orig_filename!r} overlaps another entry")
        end = entry.header_offset
    offenders.refuse()
    return files


def _blocks_of_zip(
    opened: zipfile.ZipFile, entry: zipfile.ZipInfo, meter: _Meter, total: int, report: Report
) -> Iterator[bytes]:
    done = 0
    with opened.open(entry) as file:
        while block := file.read(BLOCK_BYTES):
            done += len(block)
            meter.add(entry.orig_filename, len(block), entry_bytes=done, stored_bytes=max(entry.compress_size, 1))
            report(min(meter.size_bytes / max(total, 1), 1.0), f"unpacking {entry.orig_filename}")
            yield block
    if done != entry.file_size:
        raise zipfile.BadZipFile(f"{entry.orig_filename!r} has {done} bytes and was to have {entry.file_size}")


# -- tar -----------------------------------------------------------------------------------------


def _unpack_tar(archive: Path, kind: Kind, meter: _Meter, report: Report) -> Iterator[Written]:
    with archive.open("rb", buffering=0) as raw:
        stream = _Counted(decompressed(raw, kind), raw)
        try:
            # As a stream: nothing is looked for at a place that the archive itself names.
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Entry) as opened:  # type: ignore[call-overload]
                yield from _files_of_tar(opened, stream, meter, report)
            _read_to_the_end(stream, meter)
        except (tarfile.TarError, Damaged, ValueError) as broken:
            if not meter.entries and not isinstance(broken, Damaged):
                raise UnsupportedSource(
                    f"{archive.name} is no archive that is opened here ({OPENED}); pack its files as one of these"
                ) from broken
            raise UnreadableSource(f"{archive.name} is damaged ({broken}); pack and upload it again") from broken


def _files_of_tar(opened: tarfile.TarFile, stream: _Counted, meter: _Meter, report: Report) -> Iterator[Written]:
    offenders, names = _Offenders(meter.name), Names(depth=meter.limits.depth)
    for entry in opened:
        # The library would keep every entry that it has seen.
        opened.members = []  # type: ignore[attr-defined]  # documented nowhere, and public
        meter.entry()
        name = entry.name
        while name.startswith("./"):
            name = name[2:]
        if entry.isdir() and name in ("", "."):
            continue
        if not (entry.isreg() or entry.isdir()):
            offenders.add(f"{name!r} is {_kind_of_tar(entry)}")
        elif entry.isreg() and not names.is_new(name) and names.check(name) is None:
            offenders.add(f"{name!r} is there twice")
        elif wrong := names.check(name, folder=entry.isdir()):
            offenders.add(wrong)
        elif entry.isreg() and not offenders:
            yield meter.tree.write(name, _blocks_of_tar(opened, entry, name, stream, meter, report))
        if offenders.enough:
            break
    offenders.refuse()


def _blocks_of_tar(
    opened: tarfile.TarFile, entry: tarfile.TarInfo, name: str, stream: _Counted, meter: _Meter, report: Report
) -> Iterator[bytes]:
    file = opened.extractfile(entry)
    assert file is not None
    done, stored_before = 0, stream.stored
    while block := file.read(BLOCK_BYTES):
        done += len(block)
        # What was read ahead of the entry may be its own: so much more is granted.
        stored = stream.stored - stored_before + READ_BYTES
        meter.add(name, len(block), entry_bytes=done, stored_bytes=stored)
        report(min(stream.stored / max(meter.archive_bytes, 1), 1.0), f"unpacking {name}")
        yield block
    if done != entry.size:
        raise tarfile.ReadError(f"{name!r} has {done} bytes and was to have {entry.size}")


def _read_to_the_end(stream: _Counted, meter: _Meter) -> None:
    """What follows the last entry: the compression's checksum is behind it."""
    while block := stream.read(BLOCK_BYTES):
        meter.add("its end", len(block), entry_bytes=0, stored_bytes=1)


class _Entry(tarfile.TarInfo):
    """A header that cannot be read is damage; to the library it is the end, as if nothing was missing."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # a block of zeros: the end
        except tarfile.HeaderError as broken:
            raise tarfile.ReadError(
                "it ends in the middle" if len(buf) < tarfile.BLOCKSIZE else str(broken)
            ) from broken


class _Counted:
    """A stream that knows how much of the archive's file it took."""

    def __init__(self, stream: IO[bytes], raw: IO[bytes]) -> None:
        self._stream, self._raw = stream, raw

    @property
    def stored(self) -> int:
        return self._raw.tell()

    def read(self, count: int) -> bytes:
        return self._stream.read(count)


def _kind_of_mode(kind: int) -> str:
    return {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}.get(
        kind, "a device"
    )


def _kind_of_tar(entry: tarfile.TarInfo) -> str:
    if entry.issym():
        return "a symbolic link"
    if entry.islnk():
        return "a hard link"
    return "a pipe" if entry.isfifo() else "a device" if entry.isdev() else "neither file nor folder"
