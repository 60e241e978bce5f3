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

A form changes place in steps that are written down first; see `storage.guard`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path

from scientistcloud.errors import InvalidParameters
from scientistcloud.layout import QUICKLOOK, DataFolder, DatasetFolder, source_path
from scientistcloud.records import ConversionTarget, Json
from scientistcloud.storage.folders import (
    RUBBISH,
    make_folder,
    named_like,
    names_in,
    number_of,
    put_in_rubbish,
    remove,
    sync,
    sync_many,
    sync_tree,
    translated,
)
from scientistcloud.storage.guard import Guarded, finish_moves, in_place, locked, read, refuse_older, write

_PARTIAL, _ASIDE, _KEPT = "partial.", "aside.", "kept."
_KEEP_ASIDE_SECONDS = 3600.0
_KEEP_KEPT_SECONDS = 7 * 86400.0


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
        with translated(folder):
            make_folder(folder.root)
            with self._locked(folder) as known:
                refuse_older(known, token, dataset_uuid)
                write(folder, known := replace(known, token=token))
                left = put_in_rubbish(folder, [*named_like(folder, _PARTIAL), *named_like(folder, QUICKLOOK)])
                published = (
                    known.published is not None and known.published["job_id"] == job_id and in_place(folder, known)
                )
                published |= known.arrived is not None and known.arrived["job_id"] == job_id
                if not published:
                    folder.partial(token).mkdir()
                sync(folder.root)
            remove(left)
        return None if published else folder.partial(token)

    def publish(self, dataset_uuid: str, *, job_id: str, token: int, names: Sequence[str], outcome: Json) -> None:
        folder = self._folder.dataset(dataset_uuid)
        partial = folder.partial(token)
        with translated(folder):
            # Ahead of the lock: it can take long, and nobody else writes into this attempt's folder.
            for name in names:
                if os.path.lexists(partial / _publishable(name)):  # else it may be the same call again
                    sync_tree(partial / name)
            with self._locked(folder) as known:
                refuse_older(known, token, dataset_uuid)
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
                left = put_in_rubbish(folder, [partial.name, *named_like(folder, QUICKLOOK)])
            remove(left)

    def show(self, dataset_uuid: str, *, token: int) -> None:
        folder = self._folder.dataset(dataset_uuid)
        with translated(folder), self._locked(folder) as known:
            refuse_older(known, token, dataset_uuid)
            remove(put_in_rubbish(folder, named_like(folder, QUICKLOOK)))
            (folder.partial(token) / QUICKLOOK).rename(folder.quicklook)

    def kept(self, dataset_uuid: str, *, job_id: str) -> Path:
        return self._folder.dataset(dataset_uuid).kept(job_id)

    def arrive(
        self, dataset_uuid: str, *, job_id: str, token: int, files: Path, at: str, listing: Path, outcome: Json
    ) -> None:
        folder = self._folder.dataset(dataset_uuid)
        place = folder.source / source_path(at) if at else folder.source
        with translated(folder):
            for path in (files, listing):
                if os.path.lexists(path):  # else it may be the same call again
                    sync_many(path)
            with self._locked(folder) as known:
                refuse_older(known, token, dataset_uuid)
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
                write(folder, known)
                finish_moves(folder, known)

    def arrived(self, dataset_uuid: str) -> Json | None:
        folder = self._folder.dataset(dataset_uuid)
        with translated(folder):
            return read(folder).arrived

    def listing(self, dataset_uuid: str, *, token: int) -> Path:
        return self._folder.dataset(dataset_uuid).arrived(token)

    def published(self, dataset_uuid: str) -> Json | None:
        folder = self._folder.dataset(dataset_uuid)
        with translated(folder):
            return read(folder).published

    def abandon(self, dataset_uuid: str, *, token: int) -> None:
        folder = self._folder.dataset(dataset_uuid)
        with translated(folder):
            left = [folder.partial(token).name]
            if read(folder).token == token:  # else it is the quick look of a later attempt
                left += named_like(folder, QUICKLOOK)
            remove(put_in_rubbish(folder, left))

    def forget(self, dataset_uuid: str, *, job_id: str) -> None:
        folder = self._folder.dataset(dataset_uuid)
        with translated(folder):
            remove(put_in_rubbish(folder, [folder.kept(job_id).name]))

    def heal(self, target: ConversionTarget) -> None:
        folder = self._folder.dataset(target.uuid)
        named = target.forms[-1].get("token") if target.forms else None
        with translated(folder):
            if not folder.root.is_dir() or not self._ails(folder, read(folder), target.token, named):
                return
            with self._locked(folder) as known:
                if known.token <= target.token:
                    if known.token < target.token:
                        write(folder, known := replace(known, token=target.token))
                    known = self._set_right(folder, known, named)
                left = self._tidy(folder, known, named)
            remove(left)

    def remove(self, dataset_uuid: str, *, token: int) -> None:
        folder = self._folder.dataset(dataset_uuid)
        with translated(folder), suppress(FileNotFoundError):
            if not folder.root.is_dir():
                return
            with self._locked(folder) as known:
                refuse_older(known, token, dataset_uuid)
                # The guard goes last: where this is cut short, the next attempt finds it.
                for name in sorted(names_in(folder.root), key=lambda name: name.startswith(folder.guard.name)):
                    path = folder.root / name
                    if path.is_dir() and not path.is_symlink():
                        shutil.rmtree(path)
                    else:
                        path.unlink()
                folder.root.rmdir()
                sync(folder.root.parent)

    def untidy(self) -> Iterator[str]:
        with suppress(FileNotFoundError), os.scandir(self._folder.datasets) as entries:
            for entry in entries:
                with suppress(OSError):
                    if any(
                        name.startswith((_PARTIAL, _ASIDE, RUBBISH, _KEPT, QUICKLOOK))
                        for name in names_in(Path(entry.path))
                    ):
                        yield entry.name

    # -- healing -----------------------------------------------------------------------------------

    def _ails(self, folder: DatasetFolder, known: Guarded, token: int, named: object) -> bool:
        """Whether `heal` has anything to do: a look without the lock, for most data sets are well."""
        return (
            known.token < token
            or bool(known.moves)
            or (known.published["token"] if known.published else None) != named
            or not in_place(folder, known)
            or bool(self._outdated(folder, known, named))
        )

    def _set_right(self, folder: DatasetFolder, known: Guarded, named: object) -> Guarded:
        """Bring what the record names into place, out of the folder in which it lies aside."""
        if known.published is not None and known.published["token"] == named and in_place(folder, known):
            return known
        where = next((name for name, what in known.aside.items() if what.get("token") == named), None)
        if named is not None and where is None:
            return known  # it is nowhere: what is in place does less harm there than in the rubbish
        free = max([known.token, *(number_of(name) for name in known.aside)]) + 1
        return self._move_into_place(
            folder, known, known.aside[where] if where else None, source=where, aside=folder.aside(free).name
        )

    def _tidy(self, folder: DatasetFolder, known: Guarded, named: object) -> list[Path]:
        outdated = self._outdated(folder, known, named)
        if any(name in known.aside for name in outdated):
            write(folder, replace(known, aside={k: v for k, v in known.aside.items() if k not in outdated}))
        return put_in_rubbish(folder, outdated)

    def _outdated(self, folder: DatasetFolder, known: Guarded, named: object) -> list[str]:
        oldest = self._now() - _KEEP_ASIDE_SECONDS
        return [
            *(
                name
                for name in named_like(folder, _PARTIAL)
                if number_of(name) < known.token
                or (known.published is not None and number_of(name) == known.published["token"])
            ),
            *(
                name
                for name in named_like(folder, _ASIDE)
                if (what := known.aside.get(name, {})).get("aside_at", 0.0) <= oldest
                and (named is None or what.get("token") != named)
            ),
            *(
                name
                for name in named_like(folder, _KEPT)
                if (folder.root / name).stat().st_mtime <= self._now() - _KEEP_KEPT_SECONDS
            ),
            *(name for name in named_like(folder, QUICKLOOK) if not folder.partial(known.token).exists()),
            *named_like(folder, RUBBISH),
        ]

    # -- moving ------------------------------------------------------------------------------------

    def _move_into_place(
        self, folder: DatasetFolder, known: Guarded, new: Json | None, *, source: str | None, aside: str
    ) -> Guarded:
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
        write(folder, known)
        return finish_moves(folder, known)

    def _locked(self, folder: DatasetFolder) -> AbstractContextManager[Guarded]:
        return locked(folder, wait_seconds=self._wait_seconds)


_RECIPE = ("format", "version", "sensor", "reader", "source_array", "options", "seconds")


def _keep_recipe(folder: DatasetFolder, job_id: str, token: int, form: Json, *, at: float) -> None:
    """Add a line to the recipes; a crash before it costs that line, which the newest form has as well."""
    line = {"token": token, "job_id": job_id, "at": at} | {key: form[key] for key in _RECIPE if key in form}
    with folder.recipes.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _publishable(name: str) -> str:
    """`name`, if it is one that may appear: source files are never altered, and the guard's names are its own."""
    if "/" in name or name in ("", "source") or name.startswith((".", _PARTIAL, _ASIDE, _KEPT, QUICKLOOK)):
        raise InvalidParameters(f"a task cannot publish {name!r}; choose a plain name that is not taken")
    return name
