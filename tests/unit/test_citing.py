"""How a public data set is cited, and what it says of itself to search engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from scientistcloud.portal.forms import Picture
from scientistcloud.portal.pages.citing import citation, schema_org
from scientistcloud.records import Dataset, DatasetStatus

ORIGIN = "https://data.example.org"
NEW_YEAR = datetime(2026, 1, 1, 0, 30, tzinfo=UTC)
BEAD = Dataset(
    uuid="03087cec",
    user="ada@example.org",
    name="A bead in agarose",
    sensor="TIFF",
    status=DatasetStatus.DONE,
    public=True,
    created_at=NEW_YEAR,
    updated_at=NEW_YEAR,
)
PICTURE = Picture(
    name="t", label="t", group="", entry=0, axes=(), dtype="float32", levels=("0/t",), channels=(), rgb=False,
    attributes={"long_name": "temperature", "units": "K"},
)  # fmt: skip


def about(dataset: Dataset = BEAD, *pictures: Picture) -> dict[str, Any]:
    return schema_org(dataset, pictures, origin=ORIGIN, facts=("24 × 160 × 200", "uint16"))


def test_a_citation_names_the_data_set_its_year_and_the_address_that_stays() -> None:
    cited = citation(BEAD, origin=ORIGIN)

    assert cited.address == "https://data.example.org/datasets/03087cec"
    assert cited.plain == f"A bead in agarose [data set]. ScientistCloud, 2026. {cited.address}"
    assert cited.bibtex == (
        "@misc{scientistcloud-03087cec,\n"
        "  title        = {{A bead in agarose}},\n"
        "  year         = {2026},\n"
        "  howpublished = {Data set on ScientistCloud},\n"
        "  url          = {https://data.example.org/datasets/03087cec},\n"
        "}"
    )


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("50 % of α_1 & β", r"50 \% of α\_1 \& β"),
        (r"C:\x{y}", r"C:\textbackslash{}x\{y\}"),
        ("}, note={x", r"\}, note=\{x"),
        ("$x^2$ ~ #3", r"\$x\textasciicircum{}2\$ \textasciitilde{} \#3"),
    ],
)
def test_what_latex_would_take_for_its_own_is_escaped(name: str, title: str) -> None:
    assert f"{{{{{title}}}}}," in citation(replace(BEAD, name=name), origin=ORIGIN).bibtex


def test_search_engines_are_told_what_it_is_and_where_its_bytes_are() -> None:
    form = {"format": "OME-Zarr 0.5", "size_bytes": 900}
    told = about(replace(BEAD, description="Whole.", tags=("PSF",), size_bytes=1500, forms=(form,)), PICTURE)

    assert (told["@type"], told["name"], told["description"]) == ("Dataset", "A bead in agarose", "Whole.")
    assert (told["keywords"], told["dateCreated"]) == (["PSF"], "2026-01-01")
    assert told["variableMeasured"] == [{"@type": "PropertyValue", "name": "temperature", "unitText": "K"}]
    assert [(each["contentUrl"], each["contentSize"]) for each in told["distribution"]] == [
        (f"{ORIGIN}/data/03087cec/source.zip", "1500 B"),
        (f"{ORIGIN}/data/03087cec/converted.ome.zarr", "900 B"),
    ]
    assert "ada" not in str(told)


def test_without_a_description_its_facts_are_one_and_without_bytes_there_is_none_to_have() -> None:
    told = about()

    assert told["description"] == "A bead in agarose, 24 × 160 × 200, uint16"
    assert told["distribution"] == []
    assert not {"keywords", "thumbnailUrl", "variableMeasured"} & set(told)
