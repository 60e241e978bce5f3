"""The job type `dataset_preview`: a first look at source files that nobody asked to convert yet.

Every n-th pixel of them, as a small store with a preview that takes the place of the converted form until there is
one. A few seconds' work for data of any size.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from scientistcloud.converters import registry
from scientistcloud.converters.contract import ReadOptions
from scientistcloud.datasets.lifecycle import LOOK
from scientistcloud.layout import CONVERTED, PREVIEW
from scientistcloud.omezarr.check import check
from scientistcloud.omezarr.plan import WriteOptions
from scientistcloud.omezarr.writer import silent, write
from scientistcloud.tasks.confinement import confine
from scientistcloud.tasks.contract import Outcome, Report, Work
from scientistcloud.tasks.conversion_options import OME_ZARR, recipe_of
from scientistcloud.tasks.form import form_of
from scientistcloud.tasks.pictures import looked_at, preview_of

WARNING = "this is a first look, made of some of the pixels; convert the data set to see and fetch all of them"


class PreviewTask:
    """`dataset_preview`; parameter: `sensor_type`."""

    job_type = LOOK

    def run(self, work: Work) -> Outcome:
        """Publishes `converted.ome.zarr` and `preview.webp`; nothing where a look would take long."""
        confine(read=[work.source if work.source.is_dir() else work.source.parent], write=work.output)
        form = first_look(
            work.source, work.output, sensor=str(work.parameters.get("sensor_type") or "auto"), report=work.report
        )
        if form is None:
            return Outcome(result={"looked": False, "reason": "a look would take long; convert the data set"})
        kept = ("sensor", "shape", "dtype", "size_bytes", "seconds")
        return Outcome(
            result={"looked": True} | {key: form[key] for key in kept},
            publish=(CONVERTED, PREVIEW),
            form=form,
            sensor=form["sensor"],
        )


def first_look(
    source: Path, output: Path, *, sensor: str = "auto", report: Report = silent
) -> dict[str, Any] | None:
    """Write a store and a preview of some pixels of `source` into the folder `output`; the form.

    None where even few would take long to read. Raises `SourceError`, `NoSpace`.
    """
    started = time.monotonic()
    report(0.0, "opening")
    options = replace(ReadOptions(), scratch=output)
    reader = registry.open_source(source.absolute(), sensor=sensor, options=options)
    try:
        looked = looked_at(reader, reader.describe(), lambda: report(0.0, "first look"))
    finally:
        reader.close()
    if looked is None:
        return None
    made = output / CONVERTED
    made.mkdir()
    written = write(looked, looked.source, made)
    check(made)
    preview_of(made, written)
    form = form_of(looked.source, written, made, made.with_name(PREVIEW))
    recipe = recipe_of(sensor, ReadOptions(), WriteOptions(), OME_ZARR)
    more = {"look": True, "warnings": [WARNING, *form["warnings"]], "seconds": round(time.monotonic() - started, 3)}
    return form | recipe | more
