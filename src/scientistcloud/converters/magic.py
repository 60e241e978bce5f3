"""What a file that nobody reads seems to be, and what it would take: for the message."""

from __future__ import annotations

from pathlib import PurePath

_TIFF = "export it as OME-TIFF"
_PICTURE = "save it as PNG or TIFF"
_FILM = "a reader of films would be needed; save its pictures as TIFF or PNG"
_PACKED = "unpack it and send the files"
_TABLE = "numbers in columns are a plot, not a picture; send gridded data, as netCDF or HDF5"

# Where well-known formats have which bytes, what they are, and what would be needed.
_KNOWN: tuple[tuple[int, bytes, str, str], ...] = (
    # science
    (0, b"\x0e\x03\x13\x01", "an HDF4 file, which is no HDF5", "convert it with h4toh5"),
    (128, b"DICM", "a DICOM file", "a reader of DICOM would be needed; export it as TIFF"),
    (344, b"n+1\0", "a NIfTI volume", "a reader of NIfTI would be needed; export it as TIFF"),
    (344, b"ni1\0", "the header of a NIfTI volume", "a reader of NIfTI would be needed; export it as TIFF"),
    (4, b"n+2\0\r\n\x1a\n", "a NIfTI-2 volume", "a reader of NIfTI would be needed; export it as TIFF"),
    (0, b"SIMPLE  =", "a FITS file", "a reader of FITS would be needed; convert it to TIFF"),
    (208, b"MAP ", "an MRC or CCP4 volume", "a reader of MRC would be needed; convert it to TIFF with mrc2tif"),
    (0, b"NRRD0", "an NRRD volume", "a reader of NRRD would be needed; export it as TIFF"),
    (0, b"ObjectType = Image", "a MetaImage header", "a reader of it would be needed; export it as TIFF"),
    (0, b"# vtk DataFile", "a VTK file", "a reader of VTK would be needed; export its volume as TIFF or HDF5"),
    (0, b"<VTKFile", "a VTK file", "a reader of VTK would be needed; export its volume as TIFF or HDF5"),
    (0, b"GRIB", "a GRIB file", "convert it to netCDF, for example with cdo -f nc4 copy"),
    (0, b"BUFR", "a BUFR file", "convert it to netCDF"),
    (0, b"MATLAB 5.0 MAT-file", "a MATLAB file of version 5", "save it with -v7.3, which is HDF5"),
    (0, b"\x93NUMPY", "a NumPy array", "save it as TIFF or netCDF, which also hold its axes"),
    (0, b"root\0", "a ROOT file", "export its histograms as HDF5"),
    (0, b"PAR1", "a Parquet table", _TABLE),
    (0, b"ARROW1", "an Arrow table", _TABLE),
    (0, b"SQLite format 3\0", "an SQLite database", "export its pictures as files"),
    (0, b"###CBF", "a CBF detector frame", "a reader of CBF would be needed; convert it to HDF5 with FabIO"),
    (0, b"LASF", "a LAS point cloud", "points are no grid; make a raster of them as GeoTIFF"),
    (0, b"ASTM-E57", "an E57 point cloud", "points are no grid; make a raster of them as GeoTIFF"),
    (0, b"ply\n", "a PLY mesh", "a mesh is no grid; send the volume that it was made from"),
    (0, b"\0\0\x27\x0a", "a shapefile", "shapes are no grid; make a raster of them as GeoTIFF"),
    # microscopes
    (0, b"ZISRAWFILE", "a Zeiss CZI file", f"a reader of CZI would be needed; {_TIFF}"),
    (0, b"\xda\xce\xbe\x0a", "a Nikon ND2 file", f"a reader of ND2 would be needed; {_TIFF}"),
    (0, b"OLYMPUSRAWFORMAT", "an Olympus OIR file", f"a reader of OIR would be needed; {_TIFF}"),
    (0, b"\xd0\xcf\x11\xe0", "an OLE file (Olympus OIB, Zeiss ZVI, or an Office document)", _TIFF),
    (0, b"ics_version", "an ICS file", _TIFF),
    (0, b"\0\0\0\x03\0\0", "a Gatan DM3 file", f"a reader of DM3 would be needed; {_TIFF}"),
    (0, b"\0\0\0\x04\0\0\0\0", "a Gatan DM4 file", f"a reader of DM4 would be needed; {_TIFF}"),
    (0, b"SIS0", "an Olympus ETS file", f"it belongs to a VSI file; {_TIFF}"),
    # pictures
    (0, b"GIF8", "a GIF picture", _PICTURE),
    (0, b"BM", "a BMP picture", _PICTURE),
    (0, b"8BPS", "a Photoshop file", _PICTURE),
    (0, b"v/1\x01", "an OpenEXR picture", "save it as TIFF of 32-bit floating point"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 picture", _PICTURE),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture", _PICTURE),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture", _PICTURE),
    (0, b"\xff\x0a", "a JPEG XL picture", _PICTURE),
    (0, b"FUJIFILMCCD-RAW", "a raw photograph of Fujifilm", "develop it and save it as TIFF"),
    (8, b"WEBP", "a WebP picture", _PICTURE),
    (8, b"AVI ", "a film (AVI)", _FILM),
    (8, b"WAVE", "a sound (WAV)", "there is nothing in it to look at"),
    (4, b"ftypheic", "a HEIC photograph", "save it as JPEG"),
    (4, b"ftypmif1", "a HEIF photograph", "save it as JPEG"),
    (4, b"ftypavif", "an AVIF picture", _PICTURE),
    (4, b"ftypcrx ", "a raw photograph of Canon", "develop it and save it as TIFF"),
    (4, b"ftyp", "a film (MP4)", _FILM),
    (4, b"moov", "a film (QuickTime)", _FILM),
    (0, b"\x1a\x45\xdf\xa3", "a film (Matroska or WebM)", _FILM),
    (0, b"\0\0\x01\xba", "a film (MPEG)", _FILM),
    (0, b"RIFF", "a RIFF file", _PICTURE),
    # archives and documents
    (0, b"PK\x03\x04", "a ZIP archive", _PACKED),
    (0, b"PK\x05\x06", "an empty ZIP archive", "send the files themselves"),
    (0, b"\x1f\x8b", "a gzip archive", _PACKED),
    (0, b"BZh", "a bzip2 archive", _PACKED),
    (0, b"\xfd7zXZ\0", "an xz archive", _PACKED),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _PACKED),
    (0, b"Rar!\x1a\x07", "a RAR archive", _PACKED),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", _PACKED),
    (0, b"\x04\x22\x4d\x18", "an LZ4 archive", _PACKED),
    (257, b"ustar", "a tar archive", _PACKED),
    (0, b"%PDF", "a PDF document", "send the data that it was made from"),
    (0, b"%!PS", "a PostScript document", "send the data that it was made from"),
    (0, b"{\\rtf", "a document in RTF", "send the data that it was made from"),
    (0, b"\x7fELF", "a program", "send data"),
    (0, b"MZ", "a program for Windows", "send data"),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file", "fetch the file with git lfs pull"),
)  # fmt: skip

# What names say of files without a word of their own.
_ENDINGS = {
    ".raw": ("raw numbers without a header, by its name", "its width, height and type would be needed; send TIFF"),
    ".dat": ("data of a program of its own, by its name", "export it as TIFF, HDF5 or netCDF"),
    ".bin": ("data of a program of its own, by its name", "export it as TIFF, HDF5 or netCDF"),
    ".img": ("a picture or volume without a header, by its name", "send its header with it, or save it as TIFF"),
    ".vsi": ("an Olympus VSI file, by its name", _TIFF),
    ".lif": ("a Leica LIF file, by its name", _TIFF),
    ".spe": ("a Princeton Instruments SPE file, by its name", _TIFF),
    ".sdt": ("a Becker & Hickl SDT file, by its name", _TIFF),
    ".jpg": ("a photograph by its name alone", "upload it again"),
    ".jpeg": ("a photograph by its name alone", "upload it again"),
    ".png": ("a picture by its name alone", "upload it again"),
    ".tif": ("a TIFF by its name alone", "upload it again"),
    ".tiff": ("a TIFF by its name alone", "upload it again"),
    ".h5": ("HDF5 by its name alone", "upload it again"),
    ".nxs": ("NeXus by its name alone", "upload it again"),
    ".nc": ("netCDF by its name alone", "upload it again"),
}  # fmt: skip


def seen(head: bytes, name: str = "") -> str:
    """What a file with this beginning seems to be, and what to do; its name says it where that says nothing."""
    if known := _known(head):
        what, todo = known
        return f"it is {what}; {todo}"
    if not head.strip(b"\0"):
        return "it holds nothing but zeros; upload it again"
    if text := _text(head[:1024]):
        return _seen_text(text, name)
    begins = f"it begins with the bytes {head[:8].hex(' ')}, which no known format does"
    if PurePath(name).suffix.lower() in _ENDINGS:
        what, todo = _ENDINGS[PurePath(name).suffix.lower()]
        return f"it is {what}; {begins}; {todo}"
    return f"{begins}; send TIFF, HDF5, netCDF, IDX, PNG or JPEG"


def _known(head: bytes) -> tuple[str, str] | None:
    # A Leica LIF has a number before and behind its mark, so that four bytes say it.
    if head[:4] == b"\x70\0\0\0" and head[8:9] == b"\x2a":
        return "a Leica LIF file", f"a reader of LIF would be needed; {_TIFF}"
    for at, magic, what, todo in _KNOWN:
        if head[at : at + len(magic)] == magic:
            return what, todo
    return None


def _seen_text(text: str, name: str) -> str:
    first = text.splitlines()[0][:40]
    if name.lower() in ("zarr.json", ".zattrs", ".zgroup", ".zarray"):
        return "it is part of a Zarr store, which is what is written here; send what it was made from"
    if text.startswith("{") and text[1:].lstrip().startswith(("HEADER_BYTES", "HEADERID")):
        return "it is a detector frame (SMV or EDF); convert it to HDF5 or TIFF, for example with FabIO"
    if text.startswith("<"):
        return "it is a text file in XML or HTML, not data; send the data files themselves"
    if text.startswith(("{", "[")):
        return f"it is a text file in JSON, not data ({first!r} …); send the data files themselves"
    if sum(first.count(each) for each in ",;\t") >= 2 or name.lower().endswith((".csv", ".tsv")):
        return f"it is a table in text ({first!r} …); {_TABLE}"
    return f"it is a text file ({first!r} …); send TIFF, HDF5, netCDF, IDX, PNG or JPEG"


def _text(head: bytes) -> str:
    """`head` as text; "" where it is none. Its last character may be cut."""
    try:
        text = head.decode("utf-8").strip()
    except UnicodeDecodeError as broken:
        text = head[: broken.start].decode("utf-8").strip() if broken.start > len(head) - 4 else ""
    return text if all(each.isprintable() or each.isspace() for each in text) else ""
