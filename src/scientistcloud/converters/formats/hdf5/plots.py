"""What a file offers to look at: the signals of its NXdata groups in NeXus' order, else its arrays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum

from scientistcloud.converters.formats.hdf5 import texts
from scientistcloud.converters.formats.hdf5.tree import Dataset, Group, Missing, Tree

ERRORS = re.compile(r"(?:^|_)(errors?|uncertaint(?:y|ies))$")
# Groups whose arrays say something about the measurement and are not what was measured.
_NO_PICTURES = frozenset((
    "NXmonitor", "NXsample", "NXsample_component", "NXcrystal", "NXtransformations", "NXgeometry", "NXpositioner",
    "NXlog", "NXsource", "NXuser",
))  # fmt: skip
_NO_PICTURE_NAMES = re.compile(
    r"(orientation_matrix|ub_?(matrix)?|u_matrix|unit_cell(_.*)?|lattice|transformation(_matrix)?)$", re.IGNORECASE
)


class Kind(IntEnum):
    """`@interpretation` of a signal, in the order in which they are shown."""

    IMAGE = 0
    SPECTRUM = 1
    REST = 2


@dataclass(frozen=True, slots=True, eq=False)
class Plot:
    """A signal with what belongs to it."""

    #: Of the signal, in its group.
    path: str
    signal: Dataset
    #: The NXdata group; None for an array that stands alone.
    group: Group | None
    kind: Kind = Kind.REST
    #: `rgb-image`, `rgba-image`.
    colours: bool = False
    errors: Dataset | None = None
    errors_path: str = ""
    #: Whether a person named it.
    asked: bool = False

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


@dataclass(slots=True)
class Offer:
    """All plots of a file."""

    #: The one to show first as far as the file says so, then the others in the order of the file.
    plots: list[Plot] = field(default_factory=list)
    #: The plot that the `default` attributes lead to.
    default: Plot | None = None
    #: Signals that lie in another file that is not there.
    missing: list[Missing] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def offered(tree: Tree) -> Offer:
    """The signals of every NXdata of every entry and subentry; where none is a picture, every array."""
    offer = Offer()
    for group in tree.groups:
        if group.nx_class == "NXdata":
            _add_signals(offer, tree, group)
    default = _default_group(tree, offer.warnings)
    if default is not None:
        offer.default = next((plot for plot in offer.plots if plot.group is default), None)
    if not any(is_picture(plot.signal) for plot in offer.plots) and not offer.missing:
        signals = {plot.signal.key for plot in offer.plots}
        offer.plots += [Plot(each.path, each, None) for each in arrays(tree) if each.key not in signals]
        offer.default = None
    return offer


def arrays(tree: Tree) -> Iterator[Dataset]:
    """Every array that may be a picture by itself: no scale, no error, nothing that describes sample or beam."""
    for each in tree.datasets():
        said = each.word("CLASS")
        if said in ("DIMENSION_SCALE", "PALETTE") or ERRORS.search(each.name) or not is_wanted(tree, each):
            continue
        yield each


def is_wanted(tree: Tree, dataset: Dataset) -> bool:
    """False for monitors, orientation matrices, unit cells, by whatever link they are reached."""
    holders = tree.holders.get(dataset.key, [])
    if any(holder.nx_class in _NO_PICTURES for holder in holders):
        return False
    return not _NO_PICTURE_NAMES.fullmatch(dataset.name)


def is_picture(dataset: Dataset) -> bool:
    return dataset.is_numeric and sum(length > 1 for length in dataset.shape) > 1


# -- the signals of a group ------------------------------------------------------------------------


def _add_signals(offer: Offer, tree: Tree, group: Group) -> None:
    known = {plot.signal.key for plot in offer.plots}
    for name in _signal_names(group):
        child = group.children.get(name)
        if isinstance(child, Missing):
            if child.filename is not None:
                offer.missing.append(child)
            else:
                offer.warnings.append(f"{child.path} is named as a signal, but its link leads nowhere")
            continue
        if not isinstance(child, Dataset):
            offer.warnings.append(f"{group.path} names {name!r} as its signal, but holds none of that name")
        elif not child.is_numeric:
            offer.warnings.append(f"{group.path}/{name} is marked as a signal, but holds no numbers")
        elif is_wanted(tree, child) and child.key not in known:
            known.add(child.key)
            kind, colours = _interpretation(child)
            errors = _errors(group, name, child)
            plot = Plot(f"{group.path}/{name}", child, group, kind, colours)
            offer.plots.append(
                replace(plot, errors=errors[1], errors_path=f"{group.path}/{errors[0]}") if errors else plot
            )


def _signal_names(group: Group) -> list[str]:
    """`@signal` and `@auxiliary_signals` of the group; of old files, what carries `@signal` itself, 1 first."""
    named = texts.words(group.attributes.get("signal"))[:1]
    if named:
        return list(dict.fromkeys([*named, *texts.words(group.attributes.get("auxiliary_signals"))]))
    marked = [
        (number, name)
        for name, child in group.datasets()
        if (number := texts.first_number(child.attributes.get("signal"))) is not None
    ]
    # A list of texts with @signal names the files of images; numbers beside it are what can be shown.
    marked.sort(key=lambda each: each[0])
    if marked:
        return [name for _, name in marked]
    broken = [name for name, child in group.children.items() if isinstance(child, Missing) and name == "data"]
    if broken:
        return broken
    if group.dataset("data"):
        return ["data"]
    pictures = [name for name, child in group.datasets() if is_picture(child) and not ERRORS.search(name)]
    return pictures if len(pictures) == 1 else []


def _interpretation(signal: Dataset) -> tuple[Kind, bool]:
    said = signal.word("interpretation").lower()
    colours = said in ("rgb-image", "rgba-image") and signal.shape[-1:] in ((3,), (4,))
    if said == "image" or said.endswith("-image"):
        return Kind.IMAGE, colours
    return (Kind.SPECTRUM if said == "spectrum" else Kind.REST), False


def _errors(group: Group, name: str, signal: Dataset) -> tuple[str, Dataset] | None:
    named = signal.word("uncertainties")
    for candidate in (f"{name}_errors", named, "errors", f"{name}_error"):
        found = group.dataset(candidate) if candidate else None
        if found is not None and found.is_numeric and found.shape == signal.shape and found.key != signal.key:
            return candidate, found
    return None


# -- the default -----------------------------------------------------------------------------------


def _default_group(tree: Tree, warnings: list[str]) -> Group | None:
    """The NXdata at the end of the chain of `default` attributes, from the root or the first entry that has one."""
    entries = [group for group in tree.groups if group.nx_class in ("NXentry", "NXsubentry")]
    starts = [tree.root] if tree.root.word("default") else [group for group in entries if group.word("default")][:1]
    for start in starts:
        group, passed = start, {start.key}
        while group.nx_class != "NXdata":
            name = group.word("default")
            found = tree.get(name, start=group) if name else None
            if not isinstance(found, Group) or found.key in passed:
                where = f"{group.path or '/'}@default"
                what = (
                    f"names {name!r}, which is no group" if name else "is missing, and ends the chain of defaults"
                )
                warnings.append(f"{where} {what}; the default is left out of account")
                return None
            passed.add(found.key)
            group = found
        return group
    return None
