"""What a converter offers: it recognises a foreign format and opens it. N readers, one writer.

A converter is offered by entry point ``scientistcloud.converters``, the built-in ones too; the contract suite
is `scientistcloud.testing.converters`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from scientistcloud.omezarr.image import Reader

HEAD_BYTES = 4096
"""How much of a file `sniff` is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What a person may overrule of a reader's choice."""

    #: The array to show first, by its name in the source.
    array: str | None = None
    #: Names for the axes, in order: ``("t", "y", "x")``.
    axes: tuple[str, ...] | None = None
    #: Spacing by axis name, in the axis' unit.
    spacing: Mapping[str, float] = field(default_factory=dict)


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
        hands it on to the next.

        Raises `UnreadableSource`, `UnsupportedSource`, or `UnsafeSource` for a file that names another one
        outside `root`. Trusts no header: sizes are checked against the file before anything is allocated.
        """
