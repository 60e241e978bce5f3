"""The real conversion in real workers, which die in the middle of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import tifffile
from service_site import Site, eventually

from scientistcloud.records import DatasetStatus, JobStatus
from scientistcloud.service.runner import Runner


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


def a_dataset_with(site: Site, source: Path) -> str:
    dataset = site.dataset()
    folder = site.folder(dataset).source
    (folder / "scan.tif").unlink()
    shutil.copy(source, folder)
    return dataset


def test_a_worker_killed_in_the_middle_of_a_conversion_leaves_nothing_half_written(
    site: Site, tmp_path: Path
) -> None:
    values = np.random.default_rng(3).integers(0, 2**12, (40, 1024, 1024), dtype=np.uint16)
    source = tmp_path / "stack.tif"
    tifffile.imwrite(source, values, metadata={"axes": "ZYX"})
    dataset = a_dataset_with(site, source)
    folder = site.folder(dataset)
    first = site.worker("ada", tasks=())
    site.worker("bob", tasks=())

    job_id = site.job(dataset)
    eventually(lambda: any(path.is_file() for path in folder.root.glob("partial.1/**/c/**/*")), "was in the middle")
    worker_id = site.found(job_id).worker_id
    (first if worker_id == "ada" else site.workers[1]).kill()
    assert not folder.converted.exists()
    assert not folder.preview.exists()

    while not site.found(job_id).status.ended:
        if folder.converted.exists():
            expect_the_values(folder.converted, values)
    job = site.found(job_id)
    assert (job.status, job.attempt) == (JobStatus.COMPLETED, 2)
    assert job.worker_id != worker_id
    target = site.settled(dataset, DatasetStatus.DONE)
    assert target.sensor == "TIFF"
    assert target.forms[-1]["token"] == job.token
    expect_the_values(folder.converted, values)
    assert folder.preview.read_bytes()[8:12] == b"WEBP"
    assert not list(folder.root.glob("partial.*"))


def expect_the_values(store: Path, values: np.ndarray) -> None:
    multiscale = json.loads((store / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]
    path = store / multiscale["datasets"][0]["path"]
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    found = tensorstore.open(spec, read=True).result().read().result()
    assert np.array_equal(found.reshape(values.shape), values)


def test_a_file_that_is_no_data_gets_its_error_and_the_worker_goes_on(site: Site, data: Path) -> None:
    bad = a_dataset_with(site, data / "bad" / "corrupt.tif")
    good = a_dataset_with(site, data / "geotiff" / "neon_osbs_029.tif")
    site.worker(tasks=())

    failed = site.ended(site.job(bad))
    done = site.ended(site.job(good))

    assert (failed.status, failed.attempt) == (JobStatus.FAILED, 1)
    assert failed.error is not None
    assert "corrupt.tif" in failed.error.message
    assert site.settled(bad, DatasetStatus.CONVERSION_ERROR).error == failed.error.message
    assert done.status is JobStatus.COMPLETED
    site.settled(good, DatasetStatus.DONE)


def test_the_command_says_in_one_line_why_it_cannot_start(site: Site) -> None:
    site.worker("ada", tasks=())

    second = site.worker("ada", tasks=())

    assert second.ends() == 2
    (line,) = second.log.read_text().splitlines()
    assert "a worker called ada runs already" in line


def test_a_warm_template_can_convert_and_read_all_that_is_installed() -> None:
    runner = Runner(silence_seconds=30)
    runner.start()
    runner.stop()

    assert "dataset_conversion" in runner.job_types
    assert {"TIFF", "TIFF RGB", "NETCDF"} <= set(runner.sensors)
