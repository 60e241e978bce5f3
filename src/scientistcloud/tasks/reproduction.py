"""Converting again what is converted, by its recipe, and comparing file by file."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scientistcloud import __version__
from scientistcloud.errors import NotFound
from scientistcloud.omezarr import metadata
from scientistcloud.omezarr.writer import silent
from scientistcloud.tasks.contract import Report
from scientistcloud.tasks.conversion import convert
from scientistcloud.tasks.conversion_options import OME_ZARR, form_option, read_options, write_options
from scientistcloud.tasks.idx_form import blocks_of

_ROOT = "zarr.json"
_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """What came of it."""

    #: How many files of the store were compared.
    files: int
    #: SHA-256 over the names and digests of all of them, of the store as it is.
    digest: str
    #: What is not the same: files of the source or of the store, a line each.
    differences: tuple[str, ...]
    #: Which version wrote the store, and which compared.
    written_by: str
    compared_by: str = __version__

    @property
    def same(self) -> bool:
        return not self.differences


def reproduce(
    made: Path, source: Path, *, recipe: dict[str, Any] | None = None, report: Report = silent
) -> Reproduction:
    """Convert `source` again as `made` was, beside it, and compare; nothing is kept or changed.

    Parameters
    ----------
    made
        An OME-Zarr store, or an ``.idx`` with the folder of its blocks beside it.
    recipe
        How it was made: ``options``, and where they are known ``version`` and ``source``. None: as the store says.

    Raises `NotFound` where there is no form, or none that says how it was made, and what `convert` raises.
    """
    recipe = _recipe(made) if recipe is None else recipe
    options: dict[str, Any] = recipe["options"]
    form = form_option(options)
    with tempfile.TemporaryDirectory(prefix=".reproduce.", dir=made.parent) as folder:
        again = Path(folder) / made.name
        convert(
            source,
            again,
            sensor=str(options.get("sensor", "auto")),
            options=read_options(options),
            writing=write_options(options),
            form=form,
            report=report,
        )
        ours, theirs = _digests(made), _digests(again)
        differences = _of_files(ours, theirs)
        if form == OME_ZARR:  # an IDX does not say what it was made of
            differences = _of_sources(recipe, _recipe(again)) + differences
    total = hashlib.sha256("".join(f"{name} {ours[name]}\n" for name in sorted(ours)).encode()).hexdigest()
    return Reproduction(
        files=len(ours), digest=total, differences=tuple(differences), written_by=str(recipe.get("version", ""))
    )


def _recipe(store: Path) -> dict[str, Any]:
    try:
        recipe: dict[str, Any] = json.loads((store / _ROOT).read_bytes())["attributes"][metadata.OURS]
        recipe["options"]
    except (OSError, ValueError, KeyError):
        raise NotFound(f"{store} is no store that says how it was made; convert the data set first") from None
    return recipe


def _digests(made: Path) -> dict[str, str]:
    """SHA-256 of each file; of a store's root without where it came from, which names versions."""
    found = {}
    folder = made if made.is_dir() else blocks_of(made)
    for path in sorted([*folder.rglob("*"), *([] if made.is_dir() else [made])]):
        if not path.is_file():
            continue
        name = path.relative_to(made if made.is_dir() else made.parent).as_posix()
        if name == _ROOT:
            document = json.loads(path.read_bytes())
            document["attributes"].pop(metadata.OURS, None)
            found[name] = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
            continue
        total = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while block := file.read(_BLOCK_BYTES):
                total.update(block)
        found[name] = total.hexdigest()
    return found


def _of_sources(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    was, is_ = ({each["path"]: each["sha256"] for each in recipe.get("source", ())} for recipe in (before, now))
    return [
        f"the source file {name} {'is gone' if name not in is_ else 'is new' if name not in was else 'is another'}"
        for name in sorted(was.keys() | is_.keys())
        if was.get(name) != is_.get(name)
    ]


def _of_files(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    return [
        f"{name} {'is missing' if name not in ours else 'is too much' if name not in theirs else 'differs'}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
