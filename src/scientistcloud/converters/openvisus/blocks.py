"""Where a block of an IDX lies: its file, and what the file's table says of it."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

# Ten numbers of 32 bits, most significant byte first: two unused, place (low, high), length, flags, four unused.
_ROW = struct.Struct(">10I")
_NUMBER = re.compile(r"%0?(\d{0,2})[xd]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """How the blocks of one IDX are laid out."""

    #: The folder of the ``.idx``.
    folder: Path
    template: str
    time_template: str
    blocks_per_file: int
    interleaved: bool

    def file_of(self, block: int, time: float) -> Path:
        """The file that holds `block`, called by its first block in hexadecimal, last digits in the last place."""
        first = block - block % self.blocks_per_file
        fields = [int(match.group(1) or 0) for match in _NUMBER.finditer(self.template)]
        digits = f"{first:x}"
        words = []
        for place, width in enumerate(reversed(fields)):
            last = place == len(fields) - 1
            words.append((digits if last or not width else digits[-width:]).rjust(width, "0"))
            digits = digits[: -width or None] if width and len(digits) > width else "0"
        words.reverse()
        named = iter(words)
        parts = self.template.split("/")
        at = next(index for index, part in enumerate(parts) if _NUMBER.search(part))
        filled = [_NUMBER.sub(lambda _: next(named), part) for part in parts]
        times = _NUMBER.sub(lambda match: f"{int(time):0{int(match.group(1) or 0)}d}", self.time_template).strip(
            "/"
        )
        return self.folder.joinpath(*filled[:at], *([times] if times else []), *filled[at:])

    def trouble(self, block: int, field: int, time: float) -> str | None:
        """Why `block` could not be read; None: it was never written, and has the field's default value."""
        path = self.file_of(block, time)
        if not path.exists():
            if self.time_template and not any(path.parent.glob("*")):
                return None  # a step in time that was never written
            return f"the block file {path.name} is missing"
        if self.interleaved:
            return f"block {block} of {path.name} cannot be read"
        place = field * self.blocks_per_file + block % self.blocks_per_file
        with path.open("rb") as file:
            file.seek(_ROW.size * (1 + place))
            row = file.read(_ROW.size)
        if len(row) < _ROW.size:
            return f"the block file {path.name} is cut off within its table"
        _, _, low, high, length, *_ = _ROW.unpack(row)
        if length == 0:
            return None
        end = (high << 32) + low + length
        size = path.stat().st_size
        if end > size:
            return f"the block file {path.name} ends at byte {size}, and block {block} at {end}"
        return f"block {block} of {path.name} does not decompress"
