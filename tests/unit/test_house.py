"""The house's invariants that no import contract can hold: words, the environment, public names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import scientistcloud

PACKAGE = Path(scientistcloud.__file__).parent
NOBODY = ("jobs", "service", "tasks", "converters", "omezarr")


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((PACKAGE / folder).rglob("*.py"))


def test_nothing_that_processes_jobs_has_an_identifier_for_a_person() -> None:
    found = []
    for path in sources(*NOBODY):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [
                getattr(node, "id", None),
                getattr(node, "attr", None),
                getattr(node, "arg", None),
                getattr(node, "name", None),
            ]
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
                names.append(node.value)
            found += [
                f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', '?')}: {name}"
                for name in names
                if isinstance(name, str)
                and name.lower() in ("user", "user_id", "user_email", "owner", "owner_id", "email", "username")
            ]

    # jobs/queue.py spells the five refused keys once, to refuse them.
    assert {line.split(":")[0] for line in found} <= {"jobs/parameters.py", "jobs/queue.py"}, found
    assert len(found) == 5, found


def test_only_settings_reads_the_environment() -> None:
    reads = [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if re.search(r"os\.environ\b|os\.getenv\b|environ\[", path.read_text()) and path.name != "settings.py"
    ]

    # Those that start child processes pass their environment on; they read no setting from it.
    assert set(reads) <= {"cli/serve.py", "cli/demo.py", "service/runner.py", "service/template.py"}, reads


def test_every_public_name_can_be_imported() -> None:
    for name in scientistcloud.__all__:
        assert getattr(scientistcloud, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        scientistcloud.nonsense  # noqa: B018  # asking for it is the test


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("scientistcloud", ("numpy", "fastapi", "pydantic", "sqlite3")),
        ("scientistcloud.cli", ("numpy", "fastapi", "tensorstore", "sqlite3")),
        ("scientistcloud.portal.app", ("numpy", "tensorstore", "tifffile", "netCDF4", "PIL", "h5py")),
        ("scientistcloud.client", ("numpy", "fastapi", "sqlite3")),
        ("scientistcloud.converters.formats.photographs", ("tifffile", "imagecodecs", "PIL")),
        ("scientistcloud.converters.formats.tiff", ("tifffile", "imagecodecs")),
        ("scientistcloud.converters.formats.hdf5", ("h5py", "imagecodecs")),
        ("scientistcloud.service.background", ("opentelemetry", "numpy", "fastapi", "sqlite3")),
    ],
)
def test_importing_stays_light(module: str, heavy: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print(*[name for name in {heavy!r} if name in sys.modules])"

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert said.stdout.split() == []
