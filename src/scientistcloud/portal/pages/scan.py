"""Two linked panes for a scan: its map, and the detector's frame at the point that is chosen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from scientistcloud.portal.api.data import Publication
from scientistcloud.portal.colours import COLOUR_MAPS, ColourMap
from scientistcloud.portal.forms import Picture
from scientistcloud.portal.pages.facts import units
from scientistcloud.portal.scans import Scan, scan_of
from scientistcloud.portal.viewer_state import DEFAULT_MAP
from scientistcloud.records import Dataset


@dataclass(frozen=True, slots=True)
class ScanPanel:
    """What the panes and the controls beside them need to know."""

    scan: Scan
    #: Where frames and maps are asked for.
    address: str
    maps: tuple[Picture, ...]
    frames: tuple[Picture, ...]
    colours: tuple[ColourMap, ...] = tuple(COLOUR_MAPS.values())
    first_colours: str = DEFAULT_MAP

    @property
    def for_script(self) -> str:
        """What the page's script works with."""
        return json.dumps(
            {
                "address": self.address,
                "shape": self.scan.shape,
                "missing": self.scan.missing,
                "units": str(self.scan.attributes.get("units") or ""),
                "aspects": [_aspect(self.maps), _aspect(self.frames)],
                "images": {each.name: {"units": units(each)} for each in (*self.maps, *self.frames)},
                "colours": {each.name: each.stops for each in self.colours},
            }
        )


def scan_panel(dataset: Dataset, shown: Publication | None, pictures: Sequence[Picture]) -> ScanPanel | None:
    """The panes of what is shown; None where it is no scan."""
    if shown is None or shown.idx or not pictures:
        return None
    scan = scan_of(shown.folder, shown.token)
    if scan is None:
        return None
    return ScanPanel(
        scan,
        f"/scan-data/{quote(dataset.uuid)}/@{shown.token}",
        tuple(scan.maps(pictures)),
        tuple(scan.frames(pictures)),
    )


def _aspect(pictures: Sequence[Picture]) -> float:
    """How much higher than wide a pixel is shown: as its axes say, where they are of one unit."""
    axes: Any = pictures[0].axes if pictures else ()
    if len(axes) != 2 or axes[0].unit != axes[1].unit or not axes[0].unit:
        return 1.0
    ratio = axes[0].scale / axes[1].scale
    return ratio if 0.1 <= ratio <= 10 else 1.0
