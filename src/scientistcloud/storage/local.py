"""Converted forms in the data folder, and the guard that lets each appear whole or not at all.

Under ``datasets/UUID``::

    .guard           whoever holds its `flock` may move forms; the file itself stays empty
    .guard.json      the greatest token that began, what is published, what lies aside, moves under way
    partial.TOKEN/   an attempt's output
    aside.TOKEN/     the form that the publication with TOKEN replaced
    recipes.jsonl    a line for each publication
    .rubbish.NAME    on its way out
    quicklook.ome.zarr  of the attempt that is at work
    kept.JOB_ID/     what a job keeps for its next attempt
    .arrived.TOKEN   the list of the source files that an attempt brought, until their records are written

A form changes place in three steps: write down the moves and what will be true after them; move; write down
that it is true. Whoever takes the lock next does again what a crash cut short. Each move is one rename, left
out where its target exists, so that doing it twice is harmless.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scientistcloud.errors import InvalidParameters, LeaseLost, NoSpace, Unavailable
from scientistcloud.layout import QUICKLOOK, DataFolder, DatasetFolder, source_path
from scientistcloud.records import ConversionTarget, Json

_PARTIAL, _ASIDE, _RUBBISH, _KEPT = "partial.", "aside.", ".rubbish.", "kept."
_KEEP_ASIDE_SECONDS = 3600.0
_SYNCED_ONE_BY_ONE = 1000
_KEEP_KEPT_SECONDS = 7 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Guarded:
    """What ``.guard.json`` says."""

    #: The greatest token that began an attempt here, or was given by `heal`.
    token: int = 0
    #: `job_id`, `token`, `names`, `outcome` and `at` (POSIX seconds) of the form in place.
    published: Json | None = None
    #: By the folder's name: the publication that lies in it, and since when.
    aside: Mapping[str, Json] = field(default_factory=dict)
    #: `job_id`, `token` and `outcome` of the job that brought source files last.
    arrived: Json | None = None
    #: (from, to), relative to the data set's folder: renames that may not all have been done.
    moves: tuple[tuple[str, str], ...] = ()
    #: What is true once they are: `published`, `aside` and `arrived`.
    then: Json | None = None


class LocalForms:
    """Converted forms under ``DATA_DIR/datasets``; safe between threads, processes and machines.

    Implements `ports.FormStore`. `wait_seconds` is how long the guard's lock is waited for; `now` is wall time,
    POSIX seconds.
    """

    def __init__(
        self, folder: DataFolder, *, wait_seconds: float = 30, now: Callable[[], float] = time.time
    ) -> None:
        self._folder = folder
        self._wait_seconds = wait_seconds
        self._now = now

    def begin(self, dataset_uuid: str, *, job_id: str, token: int) -> Path | None:
        folder = self._folder.dataset(dataset_uuid)
        with _translated(folder):
            _make_folder(folder.root)
            with self._locked(folder) as known:
                _refuse_older(known, token, dataset_uuid)
                _write(folder, known := replace(known, token=token))
                left = _put_in_rubbish(folder, [*_named_like(folder, _PARTIAL), *_named_like(folder, QUICKLOOK)])
                published = (
                    known.published is not None and known.published["job_id"] == job_id and _in_place(folder, known)
                )
                published |= known.arrived is not None and known.arrived["job_id"] == job_id
                if not published:
                    folder.partial(token).mkdir()
                _sync(folder.root)
            _remove(left)
        return None if published else folder.partial(token)

    def publish(self, dataset_uuid: str, *, job_id: str, token: int, names: Sequence[str], outcome: Json) -> None:
        folder = self._folder.dataset(dataset_uuid)
        partial = folder.partial(token)
        with _translated(folder):
            # Ahead of the lock: it can take long, and nobody else writes into this attempt's folder.
            for name in names:
                if os.path.lexists(partial / _publishable(name)):  # else it may be the same call again
                    _sync_tree(partial / name)
            with self._locked(folder) as known:
                _refuse_older(known, token, dataset_uuid)
                if known.published is not None and known.published["token"] == token:
                    return  # the same call again: its answer was lost
                self._move_into_place(
                    folder,
                    known,
                    {
                        "job_id": job_id,
                        "token": token,
                        "names": list(names),
                        "outcome": dict(outcome),
                        "at": self._now(),
                    },
                    source=partial.name,
                    aside=folder.aside(token).name,
                )
                _keep_recipe(folder, job_id, token, outcome.get("form") or {}, at=self._now())
                left = _put_in_rubbish(folder, [partial.name, *_named_like(folder, QUICKLOOK)])
            _remove(left)

    def show(self, dataset_uuid: str, *, token: int) -> None:
        folder = self._folder.dataset(dataset_uuid)
        with _translated(folder), self._locked(folder) as known:
            _refuse_older(known, token, dataset_uuid)
            _remove(_put_in_rubbish(folder, _named_like(folder, QUICKLOOK)))
            (folder.partial(token) / QUICKLOOK).rename(folder.quicklook)

    def kept(self, dataset_uuid: str, *, job_id: str) -> Path:
        return self._folder.dataset(dataset_uuid).kept(job_id)

    def arrive(
        self, dataset_uuid: str, *, job_id: str, token: int, files: Path, at: str, listing: Path, outcome: Json
    ) -> None:
        folder = self._folder.dataset(dataset_uuid)
        place = folder.source / source_path(at) if at else folder.source
        with _translated(folder):
            for path in (files, listing):
                if os.path.lexists(path):  # else it may be the same call again
                    _sync_many(path)
            with self._locked(folder) as known:
                _refuse_older(known, token, dataset_uuid)
                if known.arrived is not None and known.arrived["job_id"] == job_id:
                    return  # the same call again: its answer was lost
                if not os.path.lexists(files) or not os.path.lexists(listing):
                    raise InvalidParameters(f"{files.name} was to arrive, but the task did not write it")
                if not at:
                    with suppress(OSError):
                        place.rmdir()  # where it is empty
                if os.path.lexists(place):
                    raise InvalidParameters(
                        f"data set {dataset_uuid} has files at {place.name!r} already; begin with a new data set"
                    )
                known = replace(
                    known,
                    moves=tuple(
                        (str(source.relative_to(folder.root)), str(target.relative_to(folder.root)))
                        for source, target in ((files, place), (listing, folder.arrived(token)))
                    ),
                    then={
                        "published": known.published,
                        "aside": known.aside,
                        "arrived": {"job_id": job_id, "token": token, "outcome": dict(outcome)},
                    },
                )
                _write(folder, known)
                _finish_moves(folder, known)

    def arrived(self, dataset_uuid: str) -> Json | None:
        folder = self._folder.dataset(dataset_uuid)
        with _translated(folder):
            return _read(folder).arrived

    def listing(self, dataset_uuid: str, *, token: int) -> Path:
        return self._folder.dataset(dataset_uuid).arrived(token)

    def published(self, dataset_uuid: str) -> Json | None:
        folder = self._folder.dataset(dataset_uuid)
        with _translated(folder):
            return _read(folder).published

    def abandon(self, dataset_uuid: str, *, token: int) -> None:
        folder = self._folder.dataset(dataset_uuid)
        with _translated(folder):
            left = [folder.partial(token).name]
            if _read(folder).token == token:  # else it is the quick look of a later attempt
                left += _named_like(folder, QUICKLOOK)
            _remove(_put_in_rubbish(folder, left))

    def forget(self, dataset_uuid: str, *, job_id: str) -> None:
        folder = self._folder.dataset(dataset_uuid)
        with _translated(folder):
            _remove(_put_in_rubbish(folder, [folder.kept(job_id).name]))

    def heal(self, target: ConversionTarget) -> None:
        folder = self._folder.dataset(target.uuid)
        named = target.forms[-1].get("token") if target.forms else None
        with _translated(folder):
            if not folder.root.is_dir() or not self._ails(folder, _read(folder), target.token, named):
                return
            with self._locked(folder) as known:
                if known.token <= target.token:
                    if known.token < target.token:
                        _write(folder, known := replace(known, token=target.token))
                    known = self._set_right(folder, known, named)
                left = self._tidy(folder, known, named)
            _remove(left)

    def remove(self, dataset_uuid: str, *, token: int) -> None:
        folder = self._folder.dataset(dataset_uuid)
        with _translated(folder), suppress(FileNotFoundError):
            if not folder.root.is_dir():
                return
            with self._locked(folder) as known:
                _refuse_older(known, token, dataset_uuid)
                # The guard goes last: where this is cut short, the next attempt finds it.
                for name in sorted(_names(folder.root), key=lambda name: name.startswith(folder.guard.name)):
                    path = folder.root / name
                    if path.is_dir() and not path.is_symlink():
                        shutil.rmtree(path)
                    else:
                        path.unlink()
                folder.root.rmdir()
                _sync(folder.root.parent)

    def untidy(self) -> Iterator[str]:
        with suppress(FileNotFoundError), os.scandir(self._folder.datasets) as entries:
            for entry in entries:
                with suppress(OSError):
                    if any(
                        name.startswith((_PARTIAL, _ASIDE, _RUBBISH, _KEPT, QUICKLOOK))
                        for name in _names(Path(entry.path))
                    ):
                        yield entry.name

    # -- healing -----------------------------------------------------------------------------------

    def _ails(self, folder: DatasetFolder, known: _Guarded, token: int, named: object) -> bool:
        """Whether `heal` has anything to do: a look without the lock, for most data sets are well."""
        return (
            known.token < token
            or bool(known.moves)
            or (known.published["token"] if known.published else None) != named
            or not _in_place(folder, known)
            or bool(self._outdated(folder, known, named))
        )

    def _set_right(self, folder: DatasetFolder, known: _Guarded, named: object) -> _Guarded:
        """Bring what the record names into place, out of the folder in which it lies aside."""
        if known.published is not None and known.published["token"] == named and _in_place(folder, known):
            return known
        where = next((name for name, what in known.aside.items() if what.get("token") == named), None)
        if named is not None and where is None:
            return known  # it is nowhere: what is in place does less harm there than in the rubbish
        free = max([known.token, *(_number(name) for name in known.aside)]) + 1
        return self._move_into_place(
            folder, known, known.aside[where] if where else None, source=where, aside=folder.aside(free).name
        )

    def _tidy(self, folder: DatasetFolder, known: _Guarded, named: object) -> list[Path]:
        outdated = self._outdated(folder, known, named)
        if any(name in known.aside for name in outdated):
            _write(folder, replace(known, aside={k: v for k, v in known.aside.items() if k not in outdated}))
        return _put_in_rubbish(folder, outdated)

    def _outdated(self, folder: DatasetFolder, known: _Guarded, named: object) -> list[str]:
        oldest = self._now() - _KEEP_ASIDE_SECONDS
        return [
            *(
                name
                for name in _named_like(folder, _PARTIAL)
                if _number(name) < known.token
                or (known.published is not None and _number(name) == known.published["token"])
            ),
            *(
                name
                for name in _named_like(folder, _ASIDE)
                if (what := known.aside.get(name, {})).get("aside_at", 0.0) <= oldest
                and (named is None or what.get("token") != named)
            ),
            *(
                name
                for name in _named_like(folder, _KEPT)
                if (folder.root / name).stat().st_mtime <= self._now() - _KEEP_KEPT_SECONDS
            ),
            *(name for name in _named_like(folder, QUICKLOOK) if not folder.partial(known.token).exists()),
            *_named_like(folder, _RUBBISH),
        ]

    # -- moving ------------------------------------------------------------------------------------

    def _move_into_place(
        self, folder: DatasetFolder, known: _Guarded, new: Json | None, *, source: str | None, aside: str
    ) -> _Guarded:
        """Move the form in place into the folder `aside`, and `new` from the folder `source` into place."""
        coming = [str(name) for name in new["names"]] if new else []
        for name in coming:
            if not os.path.lexists(folder.root / str(source) / name):
                raise InvalidParameters(
                    f"{name} was to be published, but is not in {source}; the task did not write it"
                )
        in_place = [str(name) for name in known.published["names"]] if known.published else []
        going = [name for name in dict.fromkeys(in_place + coming) if os.path.lexists(folder.root / name)]
        lie_aside = {name: what for name, what in known.aside.items() if name != source}
        if going:
            (folder.root / aside).mkdir(exist_ok=True)
            lie_aside[aside] = {**(known.published or {}), "names": going, "aside_at": self._now()}
        known = replace(
            known,
            moves=(
                *((name, f"{aside}/{name}") for name in going),
                *((f"{source}/{name}", name) for name in coming),
            ),
            then={"published": new, "aside": lie_aside, "arrived": known.arrived},
        )
        _write(folder, known)
        return _finish_moves(folder, known)

    @contextmanager
    def _locked(self, folder: DatasetFolder) -> Iterator[_Guarded]:
        """Hold the guard's lock; what is known, after the moves that a crash cut short.

        `flock` and not `lockf`, which does not exclude two threads of one process. Raises `Unavailable`.
        """
        guard = os.open(folder.guard, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._wait_for(guard, folder.guard)
            yield _finish_moves(folder, _read(folder))
        finally:
            os.close(guard)

    def _wait_for(self, guard: int, path: Path) -> None:
        until = time.monotonic() + self._wait_seconds
        pause = 0.001
        while True:
            try:
                return fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise Unavailable(
                        f"{path} has been locked by {_holder(guard)} for {self._wait_seconds:g} s; "
                        f"see what that does, or end it"
                    ) from None
            time.sleep(pause)
            pause = min(2 * pause, 0.05)


def _finish_moves(folder: DatasetFolder, known: _Guarded) -> _Guarded:
    """Do the moves that `known` has written down, those that are not done yet, and write down that they are."""
    if known.then is None:
        return known
    for source, target in known.moves:
        there = folder.root / target
        if not os.path.lexists(there):
            # Missing: it was moved before the crash, and moved on since (an exchange by two moves).
            with suppress(FileNotFoundError):
                (folder.root / source).rename(there)
    for path in {(folder.root / name).parent for move in known.moves for name in move}:
        with suppress(FileNotFoundError):
            _sync(path)
    known = _Guarded(
        token=known.token,
        published=known.then["published"],
        aside=known.then["aside"],
        arrived=known.then.get("arrived"),  # one of an earlier version has none
    )
    _write(folder, known)
    return known


_RECIPE = ("format", "version", "sensor", "reader", "source_array", "options", "seconds")


def _keep_recipe(folder: DatasetFolder, job_id: str, token: int, form: Json, *, at: float) -> None:
    """Add a line to the recipes; a crash before it costs that line, which the newest form has as well."""
    line = {"token": token, "job_id": job_id, "at": at} | {key: form[key] for key in _RECIPE if key in form}
    with folder.recipes.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _refuse_older(known: _Guarded, token: int, dataset_uuid: str) -> None:
    if known.token > token:
        raise LeaseLost(f"data set {dataset_uuid} is worked on with token {known.token}, so {token} is over")


def _publishable(name: str) -> str:
    """`name`, if it is one that may appear: source files are never altered, and the guard's names are its own."""
    if "/" in name or name in ("", "source") or name.startswith((".", _PARTIAL, _ASIDE, _KEPT, QUICKLOOK)):
        raise InvalidParameters(f"a task cannot publish {name!r}; choose a plain name that is not taken")
    return name


def _in_place(folder: DatasetFolder, known: _Guarded) -> bool:
    names = known.published["names"] if known.published else ()
    return all(os.path.lexists(folder.root / name) for name in names)


# -- the file that says what is known --------------------------------------------------------------


def _read(folder: DatasetFolder) -> _Guarded:
    try:
        found: dict[str, Any] = json.loads(folder.guarded.read_bytes())
    except FileNotFoundError:
        return _Guarded()
    except ValueError as broken:
        raise Unavailable(f"{folder.guarded} cannot be read ({broken}); restore it from a backup") from broken
    return _Guarded(
        token=found["token"],
        published=found["published"],
        aside=found["aside"],
        arrived=found.get("arrived"),
        moves=tuple((source, target) for source, target in found["moves"]),
        then=found["then"],
    )


def _write(folder: DatasetFolder, known: _Guarded) -> None:
    """Replace the file, durably and at once; only ever under the lock."""
    new = folder.guarded.with_suffix(".new")
    text = json.dumps(
        {name: getattr(known, name) for name in ("token", "published", "aside", "arrived", "moves", "then")},
        indent=1,
    )
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(folder.guarded)
    _sync(folder.root)


# -- folders ---------------------------------------------------------------------------------------


def _named_like(folder: DatasetFolder, prefix: str) -> list[str]:
    return [name for name in _names(folder.root) if name.startswith(prefix)]


def _names(path: Path) -> list[str]:
    return [entry.name for entry in path.iterdir()]


def _number(name: str) -> int:
    """The token in a folder's name; 0 in one that is not ours, which makes it the oldest."""
    number = name.rpartition(".")[2]
    return int(number) if number.isascii() and number.isdecimal() else 0


def _put_in_rubbish(folder: DatasetFolder, names: Sequence[str]) -> list[Path]:
    """Rename `names` out of the way, so that removing them need not be quick; where they are now."""
    gone = []
    for name in names:
        to = folder.root / (name if name.startswith(_RUBBISH) else f"{_RUBBISH}{uuid.uuid4().hex}")
        with suppress(FileNotFoundError):
            (folder.root / name).rename(to)
            gone.append(to)
    return gone


def _remove(paths: Sequence[Path]) -> None:
    """Remove what can be; an attempt that is just being killed may still write there, and care comes by again."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _make_folder(path: Path) -> None:
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        for made in (path, path.parent):
            _sync(made.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_many(path: Path) -> None:
    """As `_sync_tree`; of many files at once, where the system can write down a whole file system."""
    kinds = [stat.S_IFMT(each.lstat().st_mode) for each in (path, *path.rglob("*"))]
    if any(kind not in (stat.S_IFREG, stat.S_IFDIR) for kind in kinds):
        raise InvalidParameters(f"{path} holds what is neither file nor folder, so it cannot be published")
    if len(kinds) > _SYNCED_ONE_BY_ONE:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(handle) == 0:
                return
        except AttributeError:
            pass  # another system's library
        finally:
            os.close(handle)
    _sync_tree(path)


def _sync_tree(path: Path) -> None:
    """Everything at and below `path` to the disk; costs little where its writer has done so already.

    Raises `InvalidParameters` for a link or a device: what is published holds its own bytes.
    """
    kind = stat.S_IFMT(path.lstat().st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise InvalidParameters(f"{path} is neither file nor folder, so it cannot be published")
    if kind == stat.S_IFDIR:
        for inside in path.iterdir():
            _sync_tree(inside)
    _sync(path)


# -- errors ----------------------------------------------------------------------------------------


@contextmanager
def _translated(folder: DatasetFolder) -> Iterator[None]:
    try:
        yield
    except OSError as failed:
        if failed.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"the disk of {folder.root} is full; free some space, it is tried again") from failed
        raise Unavailable(f"{failed.filename or folder.root} cannot be used: {failed.strerror}") from failed


def _holder(descriptor: int) -> str:
    """Who holds the lock of the file behind `descriptor`, as far as this machine's kernel knows."""
    with suppress(OSError):
        inode = f":{os.fstat(descriptor).st_ino}"
        for line in Path("/proc/locks").read_text().splitlines():
            columns = line.split()
            if "FLOCK" in columns and "->" not in columns and any(column.endswith(inode) for column in columns):
                process = columns[columns.index("FLOCK") + 3]
                name = Path(f"/proc/{process}/comm").read_text().strip()
                return f"process {process} ({name})"
    return "a process that is not on this machine"
