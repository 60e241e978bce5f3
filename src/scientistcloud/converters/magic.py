"""What a file that nobody reads seems to be, and what it would take: for the message."""

from __future__ import annotations

# How files of well-known formats begin, what they are, and what would help.
_KNOWN = (
    (b"\x0e\x03\x13\x01", "an HDF4 file, which is no HDF5", "convert it with h4toh5"),
    (b"PK\x03\x04", "a ZIP archive", "unpack it and send the files"),
    (b"\x1f\x8b", "a gzip archive", "unpack it and send the files"),
    (b"BZh", "a bzip2 archive", "unpack it and send the files"),
    (b"\xfd7zXZ\0", "an xz archive", "unpack it and send the files"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it and send the files"),
    (b"%PDF", "a PDF document", "send the data that it was made from"),
    (b"GRIB", "a GRIB file", "convert it to netCDF, for example with cdo -f nc4 copy"),
    (b"SIMPLE  =", "a FITS file", "convert it to TIFF"),
    (b"GIF8", "a GIF picture", "save it as TIFF"),
    (b"BM", "a BMP picture", "save it as TIFF"),
    (b"\x93NUMPY", "a NumPy array", "save it as TIFF or netCDF, which also hold its axes"),
    (b"ZISRAWFILE", "a Zeiss CZI file", "export it as OME-TIFF"),
    (b"\xd0\xcf\x11\xe0", "an OLE file (Olympus OIB, Zeiss ZVI, or an Office document)", "export it as OME-TIFF"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture", "save it as TIFF"),
    (b"RIFF", "a RIFF file (WebP, AVI)", "save it as TIFF"),
)


def seen(head: bytes) -> str:
    """What a file with this beginning seems to be, and what to do."""
    for magic, what, todo in _KNOWN:
        if head.startswith(magic):
            return f"it is {what}; {todo}"
    if head[128:132] == b"DICM":
        return "it is a DICOM file; export it as TIFF"
    if head[344:348] in (b"n+1\0", b"ni1\0"):
        return "it is a NIfTI volume; export it as TIFF"
    if not head.strip(b"\0"):
        return "it holds nothing but zeros; upload it again"
    text = _text(head[:1024])
    if text.startswith("<"):
        return "it is a text file in XML or HTML, not data; send the data files themselves"
    if text:
        return f"it is a text file ({text.splitlines()[0][:40]!r} …); send TIFF or netCDF"
    return f"it begins with the bytes {head[:8].hex(' ')}, which no known format does; send TIFF or netCDF"


def _text(head: bytes) -> str:
    """`head` as text; "" where it is none. Its last character may be cut."""
    try:
        text = head.decode("utf-8").strip()
    except UnicodeDecodeError as broken:
        text = head[: broken.start].decode("utf-8").strip() if broken.start > len(head) - 4 else ""
    return text if all(each.isprintable() or each.isspace() for each in text) else ""
