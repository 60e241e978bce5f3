"""IDX of OpenVisus: a header in text, and blocks in files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scientistcloud.converters.contract import ReadOptions
from scientistcloud.converters.formats.idx.header import MAGIC, refuse_several
from scientistcloud.omezarr.image import Reader

_SEVERAL = (b"IdxMultipleDataset", b"<midx", b"typename='Idx", b'typename="Idx', b"<idxfile")


class IdxConverter:
    """Reads IDX with OpenVisus, in a process of its own."""

    sensors: tuple[str, ...] = ("IDX",)
    summary = "an .idx of OpenVisus with its blocks: fields, steps in time, colours"

    def sniff(self, head: bytes, name: str) -> bool:  # noqa: ARG002  # the text says it
        return head.lstrip().startswith(MAGIC) or _is_midx(head)

    def open(self, files: Sequence[Path], *, root: Path, options: ReadOptions) -> Reader:  # noqa: ARG002
        for path in files:
            with path.open("rb") as file:
                if _is_midx(file.read(4096)):
                    raise refuse_several(path)
        # Not above: who converts another format need not load these libraries.
        from scientistcloud.converters.formats.idx.reader import IdxReader

        return IdxReader(files, root=root)


def _is_midx(head: bytes) -> bool:
    return head.lstrip().startswith(b"<") and any(word in head for word in _SEVERAL)
