"""A tar as it arrives: what `tarfile` and `tar` write is read, and what is no plain file is refused by its name."""

from __future__ import annotations

import io
import subprocess
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scientistcloud.errors import InvalidParameters
from scientistcloud.layout import checked_path
from scientistcloud.uploads.tarstream import TarStream

LARGEST = 100_000


def tar(*entries: tuple[str, bytes], format_: int = tarfile.PAX_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format_) as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def read(data: bytes, *, pieces: int = 10**6) -> list[tuple[str, bytes]]:
    stream = TarStream(largest_bytes=LARGEST)
    found = [
        (file.path, bytes(file.content))
        for start in range(0, len(data), pieces)
        for file in stream.feed(data[start : start + pieces])
    ]
    stream.end()
    return found


def _sound(name: str) -> bool:
    try:
        return checked_path(name) == name and not name.startswith("./")
    except InvalidParameters:
        return False


_NAMES = st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=6).map("/".join).filter(_sound)


@given(
    st.dictionaries(_NAMES, st.binary(max_size=2000), min_size=1, max_size=5),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.integers(1, 3000),
)
def test_whatever_is_packed_comes_out_in_pieces_of_any_size(
    files: dict[str, bytes], format_: int, pieces: int
) -> None:
    assert read(tar(*files.items(), format_=format_), pieces=pieces) == list(files.items())


@pytest.mark.parametrize("format_", ["ustar", "gnu", "pax", "v7"])
def test_what_the_command_packs_is_read(tmp_path: Path, format_: str) -> None:
    (tmp_path / "scan" / "deep").mkdir(parents=True)
    (tmp_path / "scan" / "a.tif").write_bytes(b"a" * 513)
    (tmp_path / "scan" / "deep" / "empty").touch()

    packed = subprocess.run(
        ["tar", f"--format={format_}", "-c", "-C", str(tmp_path / "scan"), "."], capture_output=True, check=True
    ).stdout

    assert sorted(read(packed, pieces=700)) == [("a.tif", b"a" * 513), ("deep/empty", b"")]


def _special(kind: bytes, name: str = "odd", link: str = "") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        archive.addfile(info)
    return made.getvalue()


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (_special(tarfile.SYMTYPE, link="/etc/passwd"), "'odd' is a symbolic link"),
        (_special(tarfile.LNKTYPE, link="other"), "'odd' is a hard link"),
        (_special(tarfile.CHRTYPE), "'odd' is a device"),
        (_special(tarfile.FIFOTYPE), "'odd' is a FIFO"),
        (_special(b"S"), "'odd' is of the kind 'S'"),
        (_special(tarfile.DIRTYPE, "../up"), "'../up' is not a plain relative name"),
        (tar(("../up.tif", b"")), "'../up.tif' is not a plain relative name"),
        (tar(("a/../../up.tif", b"")), "is not a plain relative name"),
        (tar(("/etc/passwd", b"")), "'/etc/passwd' is not a plain relative name"),
        (tar(("a\nb", b"")), "control character"),
        (tar(("x" * 256, b"")), "longer than 255 bytes"),
        (tar(("large.tif", bytes(LARGEST + 1))), "'large.tif' has 100001 bytes"),
        (b"PK\3\4" + bytes(1020), "no tar"),
        (b"\x1f\x8b" + bytes(1022), "no tar"),
        (tar(("a", b"x" * 600))[:700], "ends in the middle"),
    ],
)
def test_what_a_batch_does_not_take_is_refused_with_its_name(packed: bytes, said: str) -> None:
    with pytest.raises(InvalidParameters, match=said):
        read(packed)


def test_a_damaged_header_is_refused() -> None:
    packed = bytearray(tar(("a", b"abc")))
    packed[3] ^= 1

    with pytest.raises(InvalidParameters, match="damaged"):
        read(bytes(packed))


def test_a_pax_header_cannot_lead_elsewhere_nor_lie_about_the_size() -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("sound")
        info.pax_headers = {"path": "../../up"}
        archive.addfile(info)
    with pytest.raises(InvalidParameters, match="not a plain relative name"):
        read(made.getvalue())

    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("sound")
        info.pax_headers = {"size": "9" * 30}
        archive.addfile(info)
    with pytest.raises(InvalidParameters, match="that a file has"):
        read(made.getvalue())


@given(st.binary(max_size=3000))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(InvalidParameters):
        assert all(checked_path(path) for path, _ in read(data))
