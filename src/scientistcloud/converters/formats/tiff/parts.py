"""The stacks of a data set: of single files, of OME sets of files, of families of slices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import tifffile

from scientistcloud.converters.formats.tiff import directory
from scientistcloud.converters.formats.tiff.companions import Companions, companions
from scientistcloud.converters.formats.tiff.directory import Chain
from scientistcloud.converters.formats.tiff.files import Files
from scientistcloud.converters.formats.tiff.folder import Family, families
from scientistcloud.converters.formats.tiff.planes import Codec, page_at
from scientistcloud.converters.formats.tiff.series import Opened, Series, open_tiff
from scientistcloud.converters.formats.tiff.stack import Stack, joined


@dataclass(frozen=True, slots=True)
class Part:
    """A stack, and the file whose headers describe it."""

    #: Where it stands in the source, for people.
    label: str
    series: Series
    tiff: tifffile.TiffFile


@dataclass(slots=True)
class Parts:
    """Everything that is found, and what is odd about it."""

    found: list[Part] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Collector:
    """Opens the files of a data set and finds out which of them belong together."""

    def __init__(self, files: Files, root: Path) -> None:
        self._files = files
        self._root = root
        self._parts = Parts()
        self._opened: list[Opened] = []

    def close(self) -> None:
        """Let tifffile close its files; the pixels are read elsewhere."""
        while self._opened:
            self._opened.pop().tiff.close()

    def collect(self, paths: Sequence[Path]) -> Parts:
        chains = {path: directory.follow(self._files, self._files.add(path)) for path in paths}
        linked = {path: companions(path, chain.description, self._root) for path, chain in chains.items()}
        taken: set[Path] = set()
        for path in paths:
            found = linked[path]
            if path in taken or not (found.files or found.missing or found.apart):
                continue
            for other in found.files:
                if other not in chains:
                    directory.follow(self._files, self._files.add(other))
            taken |= {path, *found.files}
            self._single(path, found)
        rest = [path for path in paths if path not in taken]
        groups, alone = families(rest, self._root) if len(rest) > 1 else ([], rest)
        for family in groups:
            alone += self._family(family, chains)
        for path in alone:
            self._single(path, linked[path])
        if groups and alone:
            names = ", ".join(path.name for path in alone[:8]) + (" …" if len(alone) > 8 else "")
            self._parts.warnings.append(
                f"{names}: no slices of {' or '.join(family.label for family in groups)}, so further images"
            )
        return self._parts

    def _single(self, path: Path, linked: Companions) -> None:
        opened = self._open(path, linked)
        several = len(self._files.paths) > 1
        if linked.missing:
            self._parts.warnings.append(
                f"{path.name} names files that are missing: {', '.join(linked.missing[:8])}; their planes are empty"
            )
        pictures = [each for each in opened.series if not each.reduced] or opened.series
        for series in pictures:
            words = [path.name if several else "", f"series {series.number}", series.name]
            label = ", ".join(word for word in (words if len(pictures) > 1 or not several else words[:1]) if word)
            self._parts.found.append(Part(label, series, opened.tiff))

    def _family(self, family: Family, chains: dict[Path, Chain]) -> list[Path]:
        """Join the files of a family; those that do not fit are handed back."""
        plain = all(_is_one_page(chains[path]) for path in family.files)
        made = self._slices(family, chains) if plain else self._stacks(family)
        kinds = Counter(_kind(series) for _, series in made)
        if not kinds or max(kinds.values()) < 2:
            return list(family.files)
        kind = kinds.most_common(1)[0][0]
        members = {path: (opened, series) for path, (opened, series) in zip(family.files, made, strict=True)}
        fitting = [path for path in family.files if _kind(members[path][1]) == kind]
        unequal = [path for path in family.files if _kind(members[path][1]) != kind]
        opened, first = members[fitting[0]]
        assert first is not None
        stacks = [series.stack for _, series in (members[path] for path in fitting) if series is not None]
        if first.stack.lead:
            self._parts.warnings.append(
                f"each of the {len(fitting)} files {family.label} is taken as a step in time"
            )
        if family.gaps:
            self._parts.warnings.append(f"the numbers of {family.label} have gaps: {family.gaps}")
        self._parts.found.append(
            Part(f"{family.label} ({len(fitting)} files)", replace(first, stack=joined(stacks)), opened.tiff)
        )
        return unequal

    def _slices(self, family: Family, chains: dict[Path, Chain]) -> list[tuple[Opened, Series | None]]:
        """Files of one page each: tifffile looks at the first of each layout, the others are like it."""
        known: dict[tuple[object, ...], tuple[Opened, Series | None]] = {}
        made: list[tuple[Opened, Series | None]] = []
        for path in family.files:
            chain = chains[path]
            page = chain.pages[0]
            layout = chain.layout(page)
            if layout not in known:
                opened = self._open(path)
                known[layout] = opened, opened.series[0] if len(opened.series) == 1 else None
            opened, series = known[layout]
            if series is None or series.stack.lead:
                made.append((opened, None))
                continue
            run = [page_at(chain.file, 1, series.stack.codec, *chain.places(page))]
            made.append((opened, replace(series, stack=replace(series.stack, runs=(run,)))))
        return made

    def _stacks(self, family: Family) -> list[tuple[Opened, Series | None]]:
        made: list[tuple[Opened, Series | None]] = []
        for path in family.files:
            opened = self._open(path)
            made.append((opened, opened.series[0] if len(opened.series) == 1 else None))
            if len(made) > 1:  # thousands of files may be too many to hold open
                self._opened.pop().tiff.close()
        return made

    def _open(self, path: Path, linked: Companions | None = None) -> Opened:
        opened = open_tiff(self._files, self._files.add(path), omexml=linked.xml if linked else None)
        self._opened.append(opened)
        return opened


def _kind(series: Series | None) -> tuple[object, ...] | None:
    """Equal for series that can be joined."""
    if series is None:
        return None
    stack: Stack = series.stack
    codec: Codec = stack.codec
    return stack.lead, codec.shaped, codec.dtype, stack.letters, len(stack.runs[0])


def _is_one_page(chain: Chain) -> bool:
    declared = directory.declared_pages(chain.description, chain.page_values(chain.pages[0]))
    return len(chain.pages) == 1 and declared in (None, 1)
