"""What a converter offers: it recognises a foreign format and opens it. N readers, one writer.

A converter is offered by entry point ``scientistcloud.converters``, the built-in ones too; the contract suite
is `scientistcloud.testing.converters`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from scientistcloud.errors import UnsupportedSource
from scientistcloud.omezarr.image import Reader

HEAD_BYTES = 4096
"""How much of a file `sniff` is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What a person may overrule of a reader's choice, and what a reader has to work with."""

    #: The array to show first, by its name in the source.
    array: str | None = None
    #: Names for the axes, in order: ``("t", "y", "x")``.
    axes: tuple[str, ...] | None = None
    #: Spacing by axis name, in the axis' unit.
    spacing: Mapping[str, float] = field(default_factory=dict)
    #: Rows and columns of a scan whose frames come one after the other.
    scan: tuple[int, int] | None = None
    #: The filter before a MAPIR camera's sensor, where its model does not say it: ``OCN``.
    bands: str | None = None
    #: The sensor that was named; None: the content decides.
    sensor: str | None = None
    #: A folder for what does not fit memory; None: where the system keeps such files.
    scratch: Path | None = None


class OtherFormat(UnsupportedSource):
    """The file shares its magic number with a format of ours, and is of another."""


class Converter(Protocol):
    """A format."""

    #: The sensors that it reads: ``("TIFF", "TIFF RGB")``.
    sensors: tuple[str, ...]
    #: One line for ``scientistcloud sensors``.
    summary: str

    def sniff(self, head: bytes, name: str) -> bool:
        """Whether a file that begins with `head` (at most `HEAD_BYTES`) is of this format.

        The content decides; `name` only where the format has no magic number.
        """

    def open(self, files: Sequence[Path], *, root: Path, options: ReadOptions) -> Reader:
        """Open the data set's files, all below `root`, in natural order of their names.

        What `options` overrule, the registry sees to for every reader (`overruled.py`); a converter may look at
        them to save itself work. Where several converters recognise a file, one that raises `UnsupportedSource`
        hands it on to the next; its words are shown where no other can, unless it says `OtherFormat`.

        Raises `UnreadableSource`, `UnsupportedSource`, or `UnsafeSource` for a file that names another one
        outside `root`. Trusts no header: sizes are checked against the file before anything is allocated.
        """


@runtime_checkable
class ReadsIfNamed(Protocol):
    """A converter that reads more where one of its sensors is named: a TIFF is a photograph if somebody says so."""

    def reads_if_named(self, head: bytes, name: str) -> bool:
        """As `Converter.sniff`, for files that it leaves to others where nobody names a sensor."""
