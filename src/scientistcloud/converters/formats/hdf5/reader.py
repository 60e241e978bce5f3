"""`Hdf5Reader`: the plots of HDF5 and NeXus files as images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scientistcloud.converters.choice import rank
from scientistcloud.converters.contract import OtherFormat, ReadOptions
from scientistcloud.converters.formats.hdf5.axes import axes_of
from scientistcloud.converters.formats.hdf5.describing import Described, described, named
from scientistcloud.converters.formats.hdf5.files import Files, OpenFile
from scientistcloud.converters.formats.hdf5.plots import Kind, Plot, is_picture, offered
from scientistcloud.converters.formats.hdf5.scan import SENSOR, scan_of
from scientistcloud.converters.formats.hdf5.scanned import Scanned, scanned
from scientistcloud.converters.formats.hdf5.texts import text
from scientistcloud.converters.formats.hdf5.tree import Dataset, Group, Missing, Tree
from scientistcloud.converters.formats.hdf5.values import READER, Values
from scientistcloud.converters.hdf5_links import DAMAGES, damaged, survey
from scientistcloud.errors import UnreadableSource, UnsupportedSource
from scientistcloud.omezarr.image import Array, Region, Source

_MOST_LISTED = 200


class Hdf5Reader:
    """What one or several HDF5 files offer to look at."""

    def __init__(self, paths: Sequence[Path], *, root: Path, options: ReadOptions) -> None:
        self._files = Files(root)
        self._values = Values(options.scratch)
        self._described: list[Described] = []
        self._scanned: Scanned | None = None
        try:
            self._source = self._open(paths, options)
        except DAMAGES as broken:
            self.close()
            raise damaged(paths[0].name, broken) from broken
        except BaseException:
            self.close()
            raise

    def describe(self) -> Source:
        return self._source

    def read(self, image: int, region: Region) -> Array:
        if self._scanned is not None:
            made = len(self._scanned.images)
            if image < made:
                return self._scanned.read_image(image, region)
            if image == made + len(self._described):
                return self._scanned.scan.read(self._values, region)
            image -= made
        found = self._described[image]
        index = [slice(0, 1)] * len(found.dataset.shape)
        for dim, at in found.fixed.items():
            index[dim] = slice(at, at + 1)
        for dim, part in zip(found.order, region, strict=True):
            index[dim] = part
        block = self._values.read(found.dataset, tuple(index))
        kept = sorted(found.order)
        block = block.reshape([block.shape[dim] for dim in kept])
        return block.transpose([kept.index(dim) for dim in found.order])

    def close(self) -> None:
        self._values.close()
        self._files.close()

    def _open(self, paths: Sequence[Path], options: ReadOptions) -> Source:
        for path in paths:
            if survey(path).netcdf:
                raise OtherFormat(f"{path.name} is a netCDF file; choose NETCDF, or leave the choice")
        trees = self._trees(paths)
        offers = [_FileOffer.of(tree, file, options) for tree, file in trees]
        self._scanned = self._scan(offers, options)
        frames = self._scanned.scan.dataset if self._scanned else None
        found: list[tuple[Described, Plot, _FileOffer]] = []
        for offer in offers:
            for plot in offer.pictures:
                if plot.signal is frames:
                    continue
                try:
                    self._values.check(plot.signal)
                    made = described(plot, offer.tree, self._values.all, offer.warnings)
                except DAMAGES as broken:
                    raise damaged(offer.file.name, broken) from broken
                found += [(each, plot, offer) for each in made]
        if not found and self._scanned is None:
            raise _nothing(offers)
        found.sort(key=lambda each: _order(*each))  # stable: the first in the file stays first
        self._described = [each for each, _, _ in found]
        several = len(trees) > 1
        stems = [offer.file.path.stem for _, _, offer in found]
        images = named(self._described, stems if several else [""] * len(found))
        if several:
            images = [
                replace(image, source_name=f"{stem}:{image.source_name}")
                for image, stem in zip(images, stems, strict=True)
            ]
        warnings = [warning for offer in offers for warning in offer.warnings]
        source = Source(
            sensor="HDF5",
            images=tuple(images),
            reader=READER,
            reason=_reason(images[0].source_name, found) if found else "",
            warnings=tuple(dict.fromkeys(warnings)),
            metadata={offer.file.name: offer.metadata() for offer in offers},
            files=tuple(dict.fromkeys(part for file in self._files.all() for part in file.storage)),
        )
        return source if self._scanned is None else _with_scan(source, self._scanned)

    def _scan(self, offers: Sequence[_FileOffer], options: ReadOptions) -> Scanned | None:
        """The first plot that is a scan, rows and columns before flat ones; what was asked for alone, if it was."""
        for offer in offers:
            plots = sorted(
                offer.pictures,
                key=lambda plot: (len(plot.signal.shape) != 4, plot is not offer.default, plot.kind),
            )
            asked = [plot for plot in plots if plot.asked]
            for plot in asked or plots:
                axes = axes_of(plot, offer.tree)
                try:
                    scan = scan_of(plot, offer.tree, axes, options, self._values.all)
                    if scan is not None:
                        self._values.check(plot.signal)
                        offer.warnings.extend(axes.warnings)
                        return scanned(scan, offer.tree, self._values)
                except DAMAGES as broken:
                    raise damaged(offer.file.name, broken) from broken
        if options.sensor == SENSOR:
            raise UnsupportedSource(
                f"{offers[0].file.name} holds no frames at the points of a scan: none of its arrays has three or "
                "four dimensions; choose HDF5, or leave the choice"
            )
        return None

    def _trees(self, paths: Sequence[Path]) -> list[tuple[Tree, OpenFile]]:
        """Those of the files that are no part of another one of them."""
        opened = [self._files.open(path) for path in paths]
        parts = set().union(*(file.parts for file in self._files.all()))
        wholes = [file for file in opened if file.path.resolve() not in parts] or opened[:1]
        return [(Tree(self._files, file), file) for file in wholes]


@dataclass(frozen=True, slots=True, eq=False)
class _FileOffer:
    """What one file offers, and what is to be said of it."""

    file: OpenFile
    tree: Tree
    pictures: list[Plot]
    default: Plot | None
    #: Plots of one dimension, and what holds no numbers.
    others: list[str]
    missing: list[Missing]
    warnings: list[str]

    @classmethod
    def of(cls, tree: Tree, file: OpenFile, options: ReadOptions) -> _FileOffer:
        offer = offered(tree)
        asked = _asked(tree, options.array)
        plots = [plot for plot in offer.plots if is_picture(plot.signal)]
        if asked is not None:
            known = next((plot for plot in plots if plot.signal is asked), None)
            plots = [plot for plot in plots if plot is not known]
            plots.insert(0, replace(known, asked=True) if known else Plot(asked.path, asked, None, asked=True))
        if offer.missing and asked is None:
            link = offer.missing[0]
            raise UnreadableSource(
                f"{file.name} is incomplete: {link.path} lies in {link.filename!r}, which is missing; "
                "send that file with it in one folder"
            )
        gone = sorted({str(link.filename) for link in tree.missing() if link.filename is not None})
        if gone:
            offer.warnings.append(f"{file.name} names files that are missing: {', '.join(gone[:8])}")
        default = offer.default if offer.default in plots else None
        if offer.default is not None and default is None:
            offer.warnings.append(f"{offer.default.path} is the default, but a plot and no picture")
        others = [plot.path for plot in offer.plots if plot not in plots]
        return cls(file, tree, plots, default, others, offer.missing, offer.warnings)

    def metadata(self) -> dict[str, Any]:
        """Attributes of the root and the entries, texts that say what was measured, what `--array` can name."""
        entries = [group for group in self.tree.groups if group.nx_class in ("NXentry", "NXsubentry")]
        said: dict[str, Any] = {"attributes": _json(self.tree.root.attributes)}
        pictures = [each for each in self.tree.datasets() if is_picture(each)]
        said["arrays"] = {each.path: f"{each.stored} {each.shape}" for each in pictures[:_MOST_LISTED]}
        for entry in entries[:32]:
            texts_ = {
                name: value
                for name in ("title", "definition", "start_time", "end_time", "experiment_identifier", "run_number")
                if (value := _small(entry.dataset(name))) is not None
            }
            described = {
                f"{name}/{word}": value
                for name, child in entry.children.items()
                if isinstance(child, Group) and child.nx_class in ("NXinstrument", "NXsample")
                for word in ("name", "description", "chemical_formula", "type", "temperature")
                if (value := _small(child.dataset(word))) is not None
            }
            said[entry.path] = {**_json(entry.attributes), **texts_, **described}
        return said


def _with_scan(source: Source, made: Scanned) -> Source:
    rows, columns = made.scan.frames.shape
    taken = {image.name for image in source.images}
    images = [
        replace(image, name=f"scan_{image.name}" if image.name in taken else image.name) for image in made.images
    ]
    return replace(
        source,
        sensor=SENSOR,
        images=(*images, *source.images),
        arrays=(made.array,),
        reason=f"{made.scan.plot.path} holds frames of a detector at {rows} × {columns} points ({made.scan.why}); "
        "what is summed over each frame is shown first",
        warnings=(*made.warnings, *source.warnings),
    )


def _asked(tree: Tree, array: str | None) -> Dataset | None:
    """The array that a person named by its path, where it is one and a picture."""
    if not array:
        return None
    found = tree.get(array)
    if found is None:
        alike = [each for each in tree.datasets() if each.name == array and is_picture(each)]
        found = alike[0] if len(alike) == 1 else None
    return found if isinstance(found, Dataset) and is_picture(found) else None


def _order(each: Described, plot: Plot, offer: _FileOffer) -> tuple[bool, bool, int, int, int]:
    """Signals before their errors, the default before all, image before spectrum before the rest, by size."""
    space, voxels = rank(each.image)
    return each.dataset is not plot.signal, plot is not offer.default, plot.kind, -space, -voxels


def _reason(name: str, found: Sequence[tuple[Described, Plot, _FileOffer]]) -> str:
    (first, plot, offer), *rest = [each for each in found if each[0].dataset is each[1].signal]
    of = f"{name} is shown first" + (f" of {len(rest) + 1} images" if rest else "")
    if plot is offer.default:
        return f"{of}: the `default` attributes lead to it"
    if not rest:
        return f"{name} is the only image" + (" that an NXdata group names" if plot.group else "")
    others = [(each, other) for each, other, _ in rest]
    if plot.kind is not Kind.REST and all(other.kind > plot.kind for _, other in others):
        return f"{of}: no other is marked as {'an image' if plot.kind is Kind.IMAGE else 'a spectrum'}"
    alike = [each for each, other in others if other.kind is plot.kind]
    space = rank(first.image)[0]
    if all(rank(each.image)[0] < space for each in alike):
        return f"{of}: no other has {space} spatial axes"
    if all(rank(each.image) < rank(first.image) for each in alike):
        return f"{of}: it has the most voxels of those with {space} spatial axes"
    return f"{of}: it has {space} spatial axes, no other has more voxels, and it comes first in the file"


def _nothing(offers: Sequence[_FileOffer]) -> UnsupportedSource:
    offer = offers[0]
    shown = [
        f"{each.path} {each.stored if each.is_numeric else 'of no numbers'} {each.shape}"
        for each in offer.tree.datasets()[:6]
    ]
    what = (", ".join(shown) + (" …" if len(shown) == 6 else "")) or "no data at all"
    return UnsupportedSource(
        f"{offer.file.name} holds plots and no picture: none of its arrays is longer than 1 along two dimensions "
        f"({what}); send a file with an array of at least two"
    )


def _small(dataset: Dataset | None) -> Any:
    if dataset is None or dataset.outside is not None or dataset.handle.size is None or dataset.handle.size > 1:
        return None
    try:
        value = dataset.handle[()]
    except DAMAGES:
        return None
    value = value.reshape(-1)[0] if hasattr(value, "reshape") and getattr(value, "size", 0) == 1 else value
    return text(value) if isinstance(value, str | bytes) else value.item() if hasattr(value, "item") else None


def _json(attributes: dict[str, Any]) -> dict[str, Any]:
    return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in attributes.items()}
