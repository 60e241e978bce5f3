"""The groups and data sets of a file as they are reached: hard, soft and external links followed by us.

The library itself follows a relative link to wherever a file of that name lies, its working folder included; here
a link leads below the data set's root or nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from scientistcloud.converters.formats.hdf5 import texts
from scientistcloud.converters.formats.hdf5.files import Files, OpenFile
from scientistcloud.converters.hdf5_chunks import Segment
from scientistcloud.converters.hdf5_links import DAMAGES, damaged

_MOST_STEPS = 64

Key = tuple[int, int]
"""The same for every path to an object."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A link that leads nowhere."""

    path: str
    #: The file that it names, where that is what is missing.
    filename: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A data set of the file."""

    path: str
    file: OpenFile
    handle: h5py.Dataset
    attributes: dict[str, Any]
    key: Key
    shape: tuple[int, ...]
    #: The type of its values, in the byte order of the file; void where NumPy has none like it.
    stored: np.dtype[Any]
    #: Where its values lie in other files; None: they lie in its own.
    outside: Sequence[Segment] | None = None

    @classmethod
    def of(cls, path: str, file: OpenFile, handle: h5py.Dataset, key: Key) -> Dataset:
        try:
            stored = handle.dtype if handle.shape is not None else np.dtype("V1")
        except DAMAGES:
            stored = np.dtype("V1")
        attributes = texts.attributes(handle)
        meanings = sorted((h5py.check_enum_dtype(stored) or {}).items(), key=lambda each: each[1])
        if meanings:  # as CF says it
            attributes.setdefault("flag_values", np.array([value for _, value in meanings], stored.str))
            attributes.setdefault("flag_meanings", " ".join(word.replace(" ", "_") for word, _ in meanings))
            stored = np.dtype(stored.str)
        outside = file.stored.get(key[1])
        return cls(path, file, handle, attributes, key, tuple(handle.shape or ()), stored, outside)

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.stored.newbyteorder("=")

    @property
    def is_numeric(self) -> bool:
        """Whether an image can be made of it: numbers, complex numbers, booleans."""
        return self.dtype.kind in "iufcb" and self.dtype.itemsize <= (16 if self.dtype.kind == "c" else 8)

    def word(self, attribute: str) -> str:
        return texts.first_word(self.attributes.get(attribute))


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """A group of the file."""

    path: str
    file: OpenFile
    handle: h5py.Group
    attributes: dict[str, Any]
    key: Key
    children: dict[str, Dataset | Group | Missing] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def nx_class(self) -> str:
        return texts.first_word(self.attributes.get("NX_class"))

    def word(self, attribute: str) -> str:
        return texts.first_word(self.attributes.get(attribute))

    def dataset(self, name: str) -> Dataset | None:
        found = self.children.get(name)
        return found if isinstance(found, Dataset) else None

    def datasets(self) -> Iterator[tuple[str, Dataset]]:
        for name, child in self.children.items():
            if isinstance(child, Dataset):
                yield name, child


class Tree:
    """Everything that is reached from the root of one file."""

    def __init__(self, files: Files, file: OpenFile) -> None:
        self._files = files
        self._nodes: dict[Key, Dataset | Group] = {}
        #: Every group once, in the order of the file.
        self.groups: list[Group] = []
        #: The groups that hold an object, by whatever link.
        self.holders: dict[Key, list[Group]] = {}
        try:
            self.root = self._walk(file)
        except DAMAGES as broken:
            raise damaged(file.name, broken) from broken

    def datasets(self) -> list[Dataset]:
        """Every data set once, in the order of the file."""
        found = {child.key: child for group in self.groups for _, child in group.datasets()}
        return list(found.values())

    def missing(self) -> list[Missing]:
        return [child for group in self.groups for child in group.children.values() if isinstance(child, Missing)]

    def get(self, path: str, *, start: Group | None = None) -> Dataset | Group | None:
        """What `path` leads to, from `start` or the root; None where nothing is there."""
        node: Dataset | Group | Missing | None = start if start and not path.startswith("/") else self.root
        for part in path.split("/"):
            if part in ("", "."):
                continue
            node = node.children.get(part) if isinstance(node, Group) else None
        return None if isinstance(node, Missing) else node

    def known(self, file: OpenFile, handle: h5py.Dataset) -> Dataset | None:
        """The data set that `handle`, reached by a reference within `file`, is."""
        found = self._node(texts.text(handle.name or ""), file, handle)
        return found if isinstance(found, Dataset) else None

    def _walk(self, file: OpenFile) -> Group:
        root = self._node("", file, file.handle)
        assert isinstance(root, Group)
        waiting = [root]
        walked = set()
        while waiting:
            group = waiting.pop()
            if group.key in walked:
                continue
            walked.add(group.key)
            self.groups.append(group)
            below = []
            for name in group.handle:
                child = self._child(group, name)
                group.children[texts.text(name)] = child
                if isinstance(child, Missing):
                    continue
                self.holders.setdefault(child.key, []).append(group)
                if isinstance(child, Group):
                    below.append(child)
            waiting += reversed(below)
        return root

    def _child(self, group: Group, name: str) -> Dataset | Group | Missing:
        path = f"{group.path}/{texts.text(name)}"
        found = self._follow(group.file, group.handle, name, steps=0)
        if isinstance(found, str) or found is None:
            return Missing(path, found)
        file, handle = found
        return self._node(path, file, handle)

    def _follow(
        self, file: OpenFile, start: h5py.Group, path: str, *, steps: int
    ) -> tuple[OpenFile, h5py.HLObject] | str | None:
        """What `path` leads to; the name of a missing file; None where nothing is there, or links go round."""
        if steps > _MOST_STEPS:
            return None
        handle: Any = file.handle if path.startswith("/") else start
        parts = [part for part in path.split("/") if part not in ("", ".")]
        for number, part in enumerate(parts):
            if not isinstance(handle, h5py.Group):
                return None
            link = handle.get(part, getlink=True)
            if isinstance(link, h5py.HardLink):
                handle = handle[part]
                continue
            rest = "/".join(parts[number + 1 :])
            if isinstance(link, h5py.SoftLink):
                return self._follow(file, handle, f"{link.path}/{rest}", steps=steps + 1)
            if isinstance(link, h5py.ExternalLink):
                target = file.links[h5py.h5o.get_info(handle.id).addr, part]
                if not target.is_file():
                    return str(link.filename)
                other = self._files.open(target)
                return self._follow(other, other.handle, f"/{link.path}/{rest}", steps=steps + 1)
            return None
        return file, handle

    def _node(self, path: str, file: OpenFile, handle: h5py.HLObject) -> Dataset | Group | Missing:
        info = h5py.h5o.get_info(handle.id)
        key = (id(file), int(info.addr))
        if key not in self._nodes:
            if isinstance(handle, h5py.Group):
                self._nodes[key] = Group(path, file, handle, texts.attributes(handle), key)
            elif isinstance(handle, h5py.Dataset):
                self._nodes[key] = Dataset.of(path, file, handle, key)
            else:
                return Missing(path)  # a named type
        return self._nodes[key]
