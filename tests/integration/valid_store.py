"""What every converted store has to be, whatever it was made of."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray
import zarr
from ome_zarr_models.v05 import BioFormats2Raw
from ome_zarr_models.v05 import Image as ValidImage

from scientistcloud.omezarr.image import Reduction
from scientistcloud.omezarr.pyramid import downsample


def assert_valid(store: Path) -> None:
    """By the validator, with xarray, and each level as its entry says it was made of the one before."""
    root = zarr.open_group(store, mode="r")
    ome: Any = root.attrs["ome"]
    groups = root["OME"].attrs["ome"]["series"] if "bioformats2raw.layout" in ome else [""]
    if groups != [""]:
        BioFormats2Raw.from_zarr(root)
    for path in groups:
        group = root[path] if path else root
        ValidImage.from_zarr(group)
        for entry in group.attrs["ome"]["multiscales"]:
            levels = [np.asarray(group[each["path"]][...]) for each in entry["datasets"]]
            scales = [np.array(each["coordinateTransformations"][0]["scale"]) for each in entry["datasets"]]
            how = entry["metadata"]["kwargs"]
            for (before, after), (s, larger) in zip(pairwise(levels), pairwise(scales), strict=True):
                steps = [round(step) for step in (larger / s).tolist()]
                wanted = downsample(before, steps, reduction=Reduction[how["reduction"]], fill=how["fill"])
                np.testing.assert_array_equal(after, wanted)
    with xarray.open_datatree(store, engine="zarr") as tree:
        assert any(node.dataset.data_vars for node in tree.subtree)
