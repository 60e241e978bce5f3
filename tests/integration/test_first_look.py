"""A first look at data that nobody asked to convert: some of the pixels, exactly as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
import zarr

from scientistcloud.tasks.preview import WARNING, first_look


def test_a_first_look_holds_some_of_the_pixels_as_they_are(tmp_path: Path) -> None:
    source, output = tmp_path / "large.tif", tmp_path / "output"
    output.mkdir()
    rows, columns = np.ogrid[:4096, :4096]
    whole = (rows * 7 + columns).astype(np.uint16)
    tifffile.imwrite(source, whole)

    form = first_look(source, output)

    assert form is not None
    assert (form["look"], form["sensor"], form["warnings"][0]) == (True, "TIFF", WARNING)
    step = 4096 // form["shape"][0]
    assert step > 1
    level = form["images"][0]["levels"][0]["path"]
    looked = np.asarray(zarr.open_array(str(output / "converted.ome.zarr" / level), mode="r"))
    assert np.array_equal(looked, whole[step // 2 :: step, step // 2 :: step])
    assert sorted(path.name for path in output.iterdir()) == ["converted.ome.zarr", "preview.webp"]
