"""Entry points to objects, with errors that name the distribution that broke."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from scientistcloud.errors import BrokenPlugin

CONVERTERS = "scientistcloud.converters"
TASKS = "scientistcloud.tasks"


def names(group: str) -> list[str]:
    """The names offered under `group`, sorted; nothing is imported."""
    return sorted({point.name for point in entry_points(group=group)})


def load_all(group: str) -> dict[str, object]:
    """Every object offered under `group`, by name.

    Raises `BrokenPlugin` for one that does not import, naming the distribution to mend or remove.
    """
    return {point.name: _load(point) for point in sorted(entry_points(group=group), key=lambda p: p.name)}


def load(group: str, name: str) -> object | None:
    """The object called `name` under `group`; None when nobody offers it. Raises as `load_all`."""
    for point in entry_points(group=group, name=name):
        return _load(point)
    return None


def _load(point: EntryPoint) -> object:
    try:
        return point.load()
    except Exception as broken:
        source = point.dist.name if point.dist else "an unknown distribution"
        raise BrokenPlugin(
            f"the plug-in {point.name!r} ({point.value}) of {source} does not load: {broken}; "
            f"mend it or uninstall {source}"
        ) from broken
