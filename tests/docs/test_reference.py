"""The reference has a place for each setting, command and public name, and for nothing that is gone."""

from __future__ import annotations

import re
import tomllib
from contextlib import closing
from pathlib import Path

import click
import pytest

import scientistcloud
from scientistcloud import open_store
from scientistcloud.cli import COMMANDS, group
from scientistcloud.portal.app import create_app
from scientistcloud.settings import PREFIX, Settings, read_settings

DOCS = Path(__file__).parents[2] / "docs"
ROOT = DOCS.parent


def headings(page: str) -> list[str]:
    return re.findall(r"^#+ (.*)$", (DOCS / page).read_text(), flags=re.MULTILINE)


def test_each_setting_has_a_heading_and_each_heading_a_setting() -> None:
    named = {name for line in headings("reference/settings.md") for name in re.findall(r"`(\w+)`", line)}

    assert named == {PREFIX + name.upper() for name in Settings.model_fields}


def test_each_command_has_a_heading_and_each_heading_a_command() -> None:
    named = {
        name for line in headings("reference/commands.md") for name in re.findall(r"`scientistcloud ([\w-]+)", line)
    }

    assert named == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_option_of_a_command_is_named_in_its_section(name: str) -> None:
    text = (DOCS / "reference/commands.md").read_text()
    section = text.split(f"`scientistcloud {name}", 1)[1].split("\n## ", 1)[0]
    command = group.get_command(click.Context(group), name)
    assert command is not None
    commands = [command]
    if isinstance(command, click.Group):
        commands += command.commands.values()

    missing = [
        option
        for each in commands
        for parameter in each.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if option.startswith("--") and f"`{option}" not in section
    ]

    assert missing == []


def test_each_public_name_and_error_is_in_the_python_reference() -> None:
    text = (DOCS / "reference/python.md").read_text()
    errors = re.findall(r"^class (\w+)", Path(scientistcloud.__path__[0], "errors.py").read_text(), re.MULTILINE)

    assert [name for name in (*scientistcloud.__all__, *errors) if f"`{name}" not in text] == []


def test_each_route_for_programs_is_in_the_http_reference(tmp_path: Path) -> None:
    with closing(open_store(f"sqlite:///{tmp_path}/db")) as store:
        paths = create_app(read_settings(data_dir=tmp_path), store).openapi()["paths"]
    text = (DOCS / "reference/http.md").read_text()
    named = re.findall(r"`(?:[A-Z, ]+ )?(/[^`? ]+)", text)

    def plain(path: str) -> str:
        return path.replace("@TOKEN", "@{token}").replace("{path}", "…").rstrip("/")

    assert {plain(path) for path in paths} - {plain(path) for path in named} == set()


def test_each_benchmark_has_its_section_in_the_results_and_its_target_in_the_makefile() -> None:
    programs = sorted(path.name for path in ROOT.glob("benchmarks/*.py"))
    sections = re.findall(r"^## `benchmarks/(\S+)`", (ROOT / "benchmarks/RESULTS.md").read_text(), re.MULTILINE)
    targets = re.findall(r"^bench-(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert sorted(sections) == programs
    assert sorted(f"{target}.py" for target in targets) == programs


def test_each_decision_is_in_the_index_once() -> None:
    index = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (DOCS / "decisions/README.md").read_text())
    pages = sorted(path.name for path in (DOCS / "decisions").glob("[0-9]*.md"))

    assert sorted(index) == pages
    assert len({name[:4] for name in pages}) == len(pages)


def test_each_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *project["optional-dependencies"]["otel"],
        *project["optional-dependencies"]["imports"],
    ]
    names = [re.split(r"[><=;\[ ]", each)[0] for each in asked]
    reasons = "\n".join(path.read_text() for path in (DOCS / "decisions").glob("[0-9]*.md")).lower()

    assert [name for name in names if name.lower() not in reasons] == []


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.md"), *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            name, _, anchor = target.partition("#")
            there = page.parent / name if name else page
            if not target.startswith(("http://", "https://", "mailto:")) and (
                not there.exists() or (anchor and anchor not in anchors(there))
            ):
                broken.append(f"{page.relative_to(ROOT)}: {target}")

    assert broken == []


def test_the_help_fits_on_one_screen() -> None:
    said = click.Context(group, info_name="scientistcloud").get_help()

    assert len(said.splitlines()) <= 24
    assert max(map(len, said.splitlines())) <= 80
