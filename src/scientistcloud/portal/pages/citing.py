"""How a public data set is cited, and what it says of itself to search engines: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any
from urllib.parse import quote

from scientistcloud.datasets.lifecycle import is_whole
from scientistcloud.layout import CONVERTED, PREVIEW
from scientistcloud.portal.forms import Picture
from scientistcloud.records import Dataset

# Of LaTeX; a title may hold anything.
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "%": r"\%", "&": r"\&", "$": r"\$", "#": r"\#",
        "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    }
)  # fmt: skip
_DESCRIPTION_LENGTH = 5000  # Google's dataset search takes 50 to 5000 characters


@dataclass(frozen=True, slots=True)
class Citation:
    """A public data set in a list of references."""

    #: The address that stays, by which everybody finds it.
    address: str
    plain: str
    bibtex: str


def citation(dataset: Dataset, *, origin: str) -> Citation:
    """How to cite `dataset` on the portal at `origin`; without a name, for a record has an owner and no author."""
    address = f"{origin}/datasets/{dataset.uuid}"
    year = dataset.created_at.astimezone(UTC).year
    fields = {
        "title": f"{{{dataset.name.translate(_LATEX)}}}",  # in braces of its own, so that capitals stay
        "year": str(year),
        "howpublished": "Data set on ScientistCloud",
        "url": address,
    }
    lines = "".join(f"  {name:12} = {{{value}}},\n" for name, value in fields.items())
    return Citation(
        address=address,
        plain=f"{dataset.name} [data set]. ScientistCloud, {year}. {address}",
        bibtex=f"@misc{{scientistcloud-{dataset.uuid},\n{lines}}}",
    )


def schema_org(
    dataset: Dataset, pictures: Sequence[Picture], *, origin: str, facts: Sequence[str]
) -> dict[str, Any]:
    """`dataset` as schema.org knows one, with where its bytes are; `facts` stand in for a description."""
    address = f"{origin}/datasets/{dataset.uuid}"
    data = f"{origin}/data/{dataset.uuid}"
    known: dict[str, Any] = {
        "@context": "https://schema.org/",
        "@type": "Dataset",
        "@id": address,
        "url": address,
        "identifier": dataset.uuid,
        "name": dataset.name,
        "description": (dataset.description or ", ".join((dataset.name, *facts)))[:_DESCRIPTION_LENGTH],
        "dateCreated": dataset.created_at.astimezone(UTC).date().isoformat(),
        "isAccessibleForFree": True,
        "includedInDataCatalog": {"@type": "DataCatalog", "name": "ScientistCloud", "url": f"{origin}/public"},
    }
    if dataset.tags:
        known["keywords"] = list(dataset.tags)
    if measured := [_measured(each) for each in pictures]:
        known["variableMeasured"] = measured
    if dataset.forms:
        known["thumbnailUrl"] = f"{data}/{PREVIEW}"
    known["distribution"] = [_download(*each) for each in _downloads(dataset, data, shown=bool(pictures))]
    return known


def _measured(picture: Picture) -> dict[str, Any]:
    name = str(picture.attributes.get("long_name") or picture.label)
    unit = picture.attributes.get("units")
    return {"@type": "PropertyValue", "name": name} | ({"unitText": str(unit)} if unit else {})


def _downloads(dataset: Dataset, data: str, *, shown: bool) -> list[tuple[str, str, str, int | None]]:
    """Name, address, media type and size of each way to have it."""
    ways: list[tuple[str, str, str, int | None]] = []
    if dataset.size_bytes:
        ways.append(("The files as they came", f"{data}/source.zip", "application/zip", dataset.size_bytes))
    if is_whole(dataset) and shown:
        size_bytes = dataset.forms[-1].get("size_bytes")
        ways.append(("OME-Zarr", f"{data}/{quote(CONVERTED)}", "application/vnd.zarr; version=3", size_bytes))
    return ways


def _download(name: str, address: str, media_type: str, size_bytes: int | None) -> dict[str, Any]:
    known = {"@type": "DataDownload", "name": name, "contentUrl": address, "encodingFormat": media_type}
    return known | ({"contentSize": f"{size_bytes} B"} if size_bytes else {})
