"""What is known of an upload in progress, on the sender's disk: so that a killed command goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from scientistcloud.client.files import LocalFile


class Manifest:
    """Lines of JSON, appended; the last one about a thing holds. Without a path it lives in memory alone."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = Lock()
        self._dataset_uuid: str | None = None
        self._locations: dict[str, str] = {}
        self._done: dict[str, str] = {}
        for line in self._lines():
            self._take(line)

    @classmethod
    def of(cls, folder: Path, *, server: str, paths: Sequence[Path], name: str | None, sensor: str) -> Manifest:
        """The manifest that the same command finds again."""
        what = json.dumps([server, sorted(str(path.resolve()) for path in paths), name, sensor])
        return cls(folder / f"{hashlib.sha256(what.encode(errors='surrogateescape')).hexdigest()[:32]}.jsonl")

    @property
    def dataset_uuid(self) -> str | None:
        return self._dataset_uuid

    def opened(self, dataset_uuid: str) -> None:
        """The data set was opened."""
        self._add({"dataset_uuid": dataset_uuid})

    def location(self, file: LocalFile) -> str | None:
        """Where the upload of the file, as it is now, goes on."""
        return self._locations.get(_key(file))

    def began(self, file: LocalFile, location: str) -> None:
        self._add({"file": _key(file), "location": location})

    def is_done(self, file: LocalFile) -> bool:
        return _key(file) in self._done

    def sha256(self, file: LocalFile) -> str | None:
        """What the file was when it was sent."""
        return self._done.get(_key(file))

    def finished(self, file: LocalFile, sha256: str) -> None:
        self.finished_all([(file, sha256)])

    def finished_all(self, files: Sequence[tuple[LocalFile, str]]) -> None:
        """The files have arrived; with the SHA-256 of what was sent."""
        self._add(*({"done": _key(file), "sha256": sha256} for file, sha256 in files))

    def again(self, file: LocalFile) -> None:
        """The file has to be sent again."""
        self._add({"again": _key(file)})

    def clear(self) -> None:
        """Forget everything: it is finished, or has to begin anew."""
        with self._lock:
            self._dataset_uuid = None
            self._locations.clear()
            self._done.clear()
            if self._path is not None:
                self._path.unlink(missing_ok=True)

    def _add(self, *lines: dict[str, Any]) -> None:
        with self._lock:
            for line in lines:
                self._take(line)
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a") as file:
                    file.write("".join(json.dumps(line) + "\n" for line in lines))

    def _take(self, line: dict[str, Any]) -> None:
        match line:
            case {"dataset_uuid": str(uuid)}:
                self._dataset_uuid = uuid
            case {"file": str(key), "location": str(location)}:
                self._locations[key] = location
            case {"done": str(key), "sha256": str(sha256)}:
                self._done[key] = sha256
            case {"again": str(key)}:
                self._done.pop(key, None)
                self._locations.pop(key, None)

    def _lines(self) -> list[dict[str, Any]]:
        if self._path is None or not self._path.exists():
            return []
        lines = []
        for text in self._path.read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:  # the last line of a command that was killed
                break
        return lines


def _key(file: LocalFile) -> str:
    """A file that was changed meanwhile is another file."""
    return f"{file.size_bytes} {file.modified_ns} {file.name}"
