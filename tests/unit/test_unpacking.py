"""Archives that were made to break us, and those that were not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from scientistcloud.errors import (
    NoSpace,
    ScientistCloudError,
    TooLarge,
    UnreadableSource,
    UnsafeSource,
    UnsupportedSource,
)
from scientistcloud.uploads import unpacking
from scientistcloud.uploads.archives import folder_for, is_archive, suffix_of
from scientistcloud.uploads.unpacking import Limits, unpack

FILES = {"scan/a.tif": b"first" * 1000, "scan/deep/b 🔬.tif": b"second", "scan/empty.txt": b""}
ROOMY = Limits()


def unpacked(archive: Path, into: Path, limits: Limits = ROOMY) -> dict[str, bytes]:
    """What came out, by path, and what lies there, which must be the same."""
    into.mkdir()
    said = {file.path: file.size_bytes for file in unpack(archive, into, limits=limits, report=lambda _f, _s: None)}
    lies = {str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()}
    assert said == {path: len(content) for path, content in lies.items()}
    return lies


def refused(
    archive: Path, kind: type[ScientistCloudError], *words: str, limits: Limits = ROOMY, into: str = "out"
) -> None:
    """The archive is refused in those words, and nothing lies outside of the folder it was unpacked into."""
    before = {path for path in archive.parent.rglob("*") if into not in path.parts}
    with pytest.raises(kind) as caught:
        unpacked(archive, archive.parent / into, limits)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path for path in archive.parent.rglob("*") if into not in path.parts} == before


def a_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=compression)
    return path


def a_tar(files: dict[str, bytes], *more: tarfile.TarInfo, entries_first: bool = True) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        if entries_first:
            for entry in more:
                archive.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        if not entries_first:
            for entry in more:
                archive.addfile(entry)
    return out.getvalue()


def an_entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".tar": lambda data: data,
    ".tar.gz": gzip.compress,
    ".tgz": gzip.compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
    ".tar.zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


# -- what is fine --------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_tar_comes_out_byte_for_byte(tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"scan{suffix}"
    archive.write_bytes(COMPRESSIONS[suffix](a_tar(FILES)))

    assert unpacked(archive, tmp_path / "out") == FILES


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_zip_comes_out_byte_for_byte(tmp_path: Path, compression: int) -> None:
    archive = a_zip(tmp_path / "scan.zip", FILES, compression)

    assert unpacked(archive, tmp_path / "out") == FILES


def test_streams_one_after_another_are_one_stream(tmp_path: Path) -> None:
    data = a_tar(FILES)
    for suffix, compress in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
        archive = tmp_path / f"scan.tar.{suffix}"
        padding = b"\0" * 1024 if suffix in ("gz", "xz") else b""
        archive.write_bytes(compress(data[:700]) + compress(data[700:]) + padding)

        assert unpacked(archive, tmp_path / suffix) == FILES


def test_a_tar_of_the_folder_it_was_made_in_has_plain_names(tmp_path: Path) -> None:
    archive = tmp_path / "scan.tar"
    archive.write_bytes(a_tar({"./a.tif": b"1", "./deep/b.tif": b"2"}, an_entry("./", tarfile.DIRTYPE)))

    assert unpacked(archive, tmp_path / "out") == {"a.tif": b"1", "deep/b.tif": b"2"}


def test_very_compressible_small_files_are_fine(tmp_path: Path) -> None:
    archive = a_zip(tmp_path / "mask.zip", {"mask.tif": bytes(8 << 20)})

    assert unpacked(archive, tmp_path / "out") == {"mask.tif": bytes(8 << 20)}


# -- names ---------------------------------------------------------------------------------------

EVIL_NAMES = ("../out.txt", "/etc/passwd", "a/../../out.txt", "a\nb", "a\\b", "x" * 256, "a//b", "C:\\evil")


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_a_name_that_leads_elsewhere_is_refused_with_its_name(tmp_path: Path, name: str) -> None:
    zipped = a_zip(tmp_path / "evil.zip", {"fine.txt": b"", name: b"evil"})
    tarred = tmp_path / "evil.tar"
    tarred.write_bytes(a_tar({"fine.txt": b"", name: b"evil"}))

    shown = name[:60].replace("\\", "\\\\").replace("\n", "\\n")
    refused(zipped, UnsafeSource, "evil.zip was not unpacked", shown, into="zip")
    refused(tarred, UnsafeSource, "evil.tar was not unpacked", shown, into="tar")


def test_a_name_with_a_nul_is_not_cut_and_taken(tmp_path: Path) -> None:
    archive = a_zip(tmp_path / "evil.zip", {"holiday.tif_.exe": b"evil"})
    archive.write_bytes(archive.read_bytes().replace(b"holiday.tif_.exe", b"holiday.tif\0.exe"))

    refused(archive, UnsafeSource, r"holiday.tif\x00.exe")


def test_a_name_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "evil.tar"
    archive.write_bytes(a_tar({"caf_.tif": b"1"}).replace(b"caf_.tif", b"caf\xe9.tif"))
    # The header's sum was of the other name.
    fixed = bytearray(archive.read_bytes())
    fixed[148:156] = b" " * 8
    fixed[148:156] = b"%06o\0 " % sum(fixed[:512])
    archive.write_bytes(bytes(fixed))

    refused(archive, UnsafeSource, "not valid Unicode")


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({"Scan.tif": b"1", "scan.tif": b"2"}, "case"),
        ({"Scan/a.tif": b"1", "scan/b.tif": b"2"}, "case"),
        ({"caf\u00e9.tif": b"1", "cafe\u0301.tif": b"2"}, "one name"),
        ({"a": b"1", "a/b": b"2"}, "a file and a folder"),
        ({"a/b": b"1", "a": b"2"}, "a file and a folder"),
    ],
)
def test_names_that_would_be_one_elsewhere_are_refused(tmp_path: Path, files: dict[str, bytes], word: str) -> None:
    zipped = a_zip(tmp_path / "evil.zip", files)
    tarred = tmp_path / "evil.tar"
    tarred.write_bytes(a_tar(files))

    refused(zipped, UnsafeSource, word, into="zip")
    refused(tarred, UnsafeSource, word, into="tar")


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    zipped = tmp_path / "evil.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.tif", b"shown to the scanner")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.tif", b"taken")
    tarred = tmp_path / "evil.tar"
    tarred.write_bytes(a_tar({"a.tif": b"1"}, an_entry("a.tif", tarfile.REGTYPE)))

    refused(zipped, UnsafeSource, "'a.tif' is there twice", into="zip")
    refused(tarred, UnsafeSource, "'a.tif' is there twice", into="tar")


def test_folders_in_each_other_end_somewhere(tmp_path: Path) -> None:
    archive = a_zip(tmp_path / "deep.zip", {"/".join("a" * 65): b""})

    refused(archive, UnsafeSource, "65 folders deep, more than 64")


def test_the_first_ten_offenders_are_named(tmp_path: Path) -> None:
    archive = a_zip(tmp_path / "evil.zip", {f"../{n:02}": b"" for n in range(30)})

    with pytest.raises(UnsafeSource) as caught:
        unpacked(archive, tmp_path / "out")
    assert "'../09'" in str(caught.value)
    assert "'../10'" not in str(caught.value)
    assert "and more" in str(caught.value)


# -- what is neither file nor folder -------------------------------------------------------------


def test_a_link_in_a_tar_and_a_file_through_it(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    archive = tmp_path / "evil.tar"
    archive.write_bytes(
        a_tar({"way/evil.txt": b"evil"}, an_entry("way", tarfile.SYMTYPE, str(tmp_path / "elsewhere")))
    )

    refused(archive, UnsafeSource, "'way' is a symbolic link")
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
    ],
)
def test_what_is_neither_file_nor_folder_in_a_tar(tmp_path: Path, kind: bytes, word: str) -> None:
    archive = tmp_path / "evil.tar"
    archive.write_bytes(a_tar({"a.txt": b"fine"}, an_entry("odd", kind, "a.txt"), entries_first=False))

    refused(archive, UnsafeSource, f"'odd' is {word}")


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        link = zipfile.ZipInfo("way")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(link, "/etc")

    refused(archive, UnsafeSource, "'way' is a symbolic link")


def test_an_encrypted_entry_is_named(tmp_path: Path) -> None:
    archive = a_zip(tmp_path / "secret.zip", {"a.tif": b"1" * 100})
    data = bytearray(archive.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(bytes(data))

    refused(archive, UnsafeSource, "'a.tif' is encrypted")


# -- bombs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst"])
def test_a_tar_that_unpacks_to_a_thousand_times_its_size(tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"bomb{suffix}"
    archive.write_bytes(COMPRESSIONS[suffix](a_tar({"zeros": bytes(64 << 20)})))
    assert archive.stat().st_size < (64 << 20) / 900

    refused(archive, UnsafeSource, "200 times its size", "'zeros'")


def test_a_zip_that_unpacks_to_a_thousand_times_its_size(tmp_path: Path) -> None:
    archive = a_zip(tmp_path / "bomb.zip", {"zeros": bytes(64 << 20)})
    assert archive.stat().st_size < (64 << 20) / 900

    refused(archive, UnsafeSource, "200 times its size", "'zeros'")
    assert (tmp_path / "out" / "zeros").stat().st_size <= 18 << 20


def test_many_small_bombs_are_one_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "_FINE_IN_ALL_BYTES", 16 << 20)
    archive = a_zip(tmp_path / "bomb.zip", {f"zeros {n}": bytes(1 << 20) for n in range(20)})

    refused(archive, UnsafeSource, "200 times its size")


def test_a_zip_whose_entries_overlap(tmp_path: Path) -> None:
    """One kernel of bytes that every entry of the directory points at: the better zip bomb."""
    archive = a_zip(tmp_path / "bomb.zip", {"a": b"kernel " * 100})
    data = archive.read_bytes()
    at = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = data[at:end]
    twice = bytearray(data[:at] + entry + entry.replace(b"a", b"b") + data[end:])
    directory_end = len(twice) - 22
    twice[directory_end + 8 : directory_end + 12] = b"\x02\x00\x02\x00"
    twice[directory_end + 12 : directory_end + 16] = (2 * len(entry)).to_bytes(4, "little")
    archive.write_bytes(bytes(twice))

    refused(archive, UnsafeSource, "overlaps another entry")


def test_what_is_left_of_the_quota_is_not_exceeded(tmp_path: Path) -> None:
    archive = a_zip(tmp_path / "scan.zip", {"a": b"x" * 600, "b": b"y" * 600})

    refused(archive, TooLarge, "more than the 1000 bytes", limits=Limits(max_bytes=1000))


def test_more_entries_than_allowed(tmp_path: Path) -> None:
    zipped = a_zip(tmp_path / "many.zip", {f"{n}": b"" for n in range(11)})
    tarred = tmp_path / "many.tar"
    tarred.write_bytes(a_tar({f"{n}": b"" for n in range(11)}))

    refused(zipped, TooLarge, "more than 10 entries", limits=Limits(entries=10), into="zip")
    refused(tarred, TooLarge, "more than 10 entries", limits=Limits(entries=10), into="tar")


def test_the_reserve_of_the_disk_is_not_touched(tmp_path: Path) -> None:
    archive = a_zip(tmp_path / "scan.zip", FILES)

    refused(archive, NoSpace, "no room", limits=Limits(disk_reserve_bytes=1 << 60))


# -- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", COMPRESSIONS)
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_an_archive_that_was_cut_off_is_no_archive(tmp_path: Path, suffix: str, part: float) -> None:
    noise = bytes((n * n * 7919) % 251 for n in range(200_000))
    data = COMPRESSIONS[suffix](a_tar({"a.tif": noise, "b.tif": noise[::-1]}))
    archive = tmp_path / f"scan{suffix}"
    archive.write_bytes(data[: int(len(data) * part)])

    refused(archive, UnreadableSource, archive.name, "damaged")


def test_a_tar_that_was_cut_off_between_two_files_is_noticed(tmp_path: Path) -> None:
    archive = tmp_path / "scan.tar"
    archive.write_bytes(a_tar({"a.tif": b"1" * 512, "b.tif": b"2" * 512})[:1024])

    refused(archive, UnreadableSource, "it ends in the middle")


def test_a_broken_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    data = bytearray(a_tar({"a.tif": b"1" * 512, "b.tif": b"2" * 512}))
    data[1024:1034] = b"garbage!!!"
    archive = tmp_path / "scan.tar"
    archive.write_bytes(bytes(data))

    refused(archive, UnreadableSource, "damaged")


def test_a_zip_whose_bytes_changed_is_noticed(tmp_path: Path) -> None:
    archive = a_zip(tmp_path / "scan.zip", {"a.tif": b"1234567890"}, zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"1234567890", b"1234567891"))

    refused(archive, UnreadableSource, "damaged", "a.tif")


def test_an_archive_without_a_file_says_so(tmp_path: Path) -> None:
    zipped = a_zip(tmp_path / "empty.zip", {})
    tarred = tmp_path / "empty.tar"
    tarred.write_bytes(a_tar({}, an_entry("folder", tarfile.DIRTYPE)))

    refused(zipped, UnreadableSource, "holds no file", into="zip")
    refused(tarred, UnreadableSource, "holds no file", into="tar")


@pytest.mark.parametrize(
    ("name", "head", "word"),
    [
        ("scan.rar", b"Rar!\x1a\x07\x01\x00", "is a RAR archive, which is not opened here"),
        ("scan.7z", b"7z\xbc\xaf\x27\x1c", "is a 7z archive, which is not opened here"),
        ("scan.zip", b"<html>not found</html>" * 100, "is no archive that is opened here"),
        ("scan.tar.gz", gzip.compress(b"just text" * 1000, mtime=0), "is no archive that is opened here"),
    ],
    ids=lambda value: value if isinstance(value, str) else "head",
)
def test_what_is_not_opened_here_is_said_clearly(tmp_path: Path, name: str, head: bytes, word: str) -> None:
    archive = tmp_path / name
    archive.write_bytes(head)

    refused(archive, UnsupportedSource, word, "zip")


# -- which files are archives --------------------------------------------------------------------


def test_name_and_content_say_what_is_an_archive(tmp_path: Path) -> None:
    zipped = a_zip(tmp_path / "z", FILES)
    text = tmp_path / "t"
    text.write_text("x")

    assert is_archive("Scan.ZIP", text)
    assert is_archive("scan.tar.zst", text)
    assert is_archive("download", zipped)
    assert not is_archive("table.npz", zipped)
    assert not is_archive("brain.nii.gz", text)
    assert not is_archive("download", text)


def test_an_archive_goes_into_a_folder_of_its_name() -> None:
    assert folder_for("day 1/scan.v2.tar.gz") == "day 1/scan.v2"
    assert folder_for("Scan.ZIP") == "Scan"
    assert folder_for("download") == "download.unpacked"
    assert suffix_of(".zip") == ""
