"""An archive on its way to one converted data set, by real workers, which die in the middle of it."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from service_site import Site, eventually

from scientistcloud.assembly import open_forms
from scientistcloud.records import Dataset, DatasetStatus, JobStatus
from scientistcloud.service import arrival
from scientistcloud.tasks.contract import Arrival, Outcome
from scientistcloud.uploads.folder import Limits
from scientistcloud.uploads.processor import UploadProcessor

ADA = "ada@example.org"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "data")
    yield site
    site.close()


@pytest.fixture
def processor(site: Site) -> UploadProcessor:
    return UploadProcessor(site.store, data_dir=site.root)


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a worker that takes what comes."""
    site = Site(tmp_path_factory.mktemp("busy"))
    site.worker(tasks=())
    yield site
    site.close()


def ingested(site: Site, archive: Path, *, convert: bool = True) -> Dataset:
    processor = UploadProcessor(site.store, data_dir=site.root)
    return processor.ingest([archive], user=ADA, name=archive.stem, convert=convert)


def slices(number: int) -> dict[str, bytes]:
    """A stack of small TIFFs, by name."""
    files = {}
    for z in range(number):
        out = io.BytesIO()
        tifffile.imwrite(out, np.full((64, 48), z, dtype=np.uint16))
        files[f"stack/z{z:03}.tif"] = out.getvalue()
    return files


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def files_of(site: Site, dataset: Dataset) -> dict[str, int]:
    return {file.path: file.size_bytes for file in site.store.datasets.files(dataset.uuid)}


def types_of(site: Site, dataset: Dataset) -> list[tuple[str, str]]:
    return [(job.job_type, job.status) for job in site.queue.list_jobs(dataset_uuid=dataset.uuid)]


def test_a_zip_of_a_folder_of_tiffs_ends_as_one_data_set(busy: Site, tmp_path: Path) -> None:
    site = busy
    files = slices(5)
    dataset = ingested(site, zipped(tmp_path / "scan.zip", files))
    assert dataset.status is DatasetStatus.UPLOAD_QUEUED

    target = site.settled(dataset.uuid, DatasetStatus.DONE)

    assert types_of(site, dataset) == [("file_extraction", "completed"), ("dataset_conversion", "completed")]
    assert (target.forms[-1]["shape"], target.sensor) == ([5, 64, 48], "TIFF")
    assert target.wanted is None
    source = site.folder(dataset.uuid).source
    assert {name: (source / "scan" / name).read_bytes() for name in files} == files
    assert (source / "scan.zip").read_bytes() == (tmp_path / "scan.zip").read_bytes()
    recorded = {file.path: file for file in site.store.datasets.files(dataset.uuid)}
    assert set(recorded) == {"scan.zip"} | {f"scan/{name}" for name in files}
    assert all(file.sha256 for file in recorded.values())
    known = site.store.datasets.get(dataset.uuid)
    assert known is not None
    assert known.size_bytes == sum(file.size_bytes for file in recorded.values())
    assert not [path.name for path in site.folder(dataset.uuid).root.iterdir() if "arrived" in path.name]


@pytest.mark.long
def test_a_folder_of_the_archives_own_name_is_not_doubled(
    site: Site, processor: UploadProcessor, tmp_path: Path
) -> None:
    archive = tmp_path / "stack.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        for name, content in slices(2).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            opened.addfile(entry, io.BytesIO(content))
    dataset = processor.ingest([archive], user=ADA, name="stack")

    site.worker(tasks=())
    site.settled(dataset.uuid, DatasetStatus.DONE)

    assert set(files_of(site, dataset)) == {"stack.tar.gz", "stack/z000.tif", "stack/z001.tif"}


def test_an_evil_archive_leaves_the_data_set_as_it_was_and_says_why(busy: Site, tmp_path: Path) -> None:
    site = busy
    archive = zipped(tmp_path / "evil.zip", {"fine.tif": b"1", "../../../evil.tif": b"2"})
    dataset = ingested(site, archive)

    target = site.settled(dataset.uuid, DatasetStatus.UNZIP_ERROR)

    assert target.error is not None
    assert "../../../evil.tif" in target.error
    assert types_of(site, dataset) == [("file_extraction", "failed")]
    assert set(files_of(site, dataset)) == {"evil.zip"}
    assert [path.name for path in site.folder(dataset.uuid).source.iterdir()] == ["evil.zip"]
    assert not [*tmp_path.rglob("evil.tif"), *site.root.parent.rglob("evil.tif")]


def test_an_archive_is_kept_as_it_is_when_no_conversion_is_wanted(busy: Site, tmp_path: Path) -> None:
    site, processor = busy, UploadProcessor(busy.store, data_dir=busy.root)
    dataset = ingested(site, zipped(tmp_path / "scan.zip", slices(1)), convert=False)
    assert (dataset.status, types_of(site, dataset)) == (DatasetStatus.DONE, [])

    asked = {"spacing": {"y": 0.5, "x": 0.25}, "reduce": "maximum"}
    processor.convert_again(dataset.uuid, request="click", options=asked)
    eventually(lambda: len(types_of(site, dataset)) == 2, "led to a conversion")
    target = site.settled(dataset.uuid, DatasetStatus.DONE)

    assert target.forms[-1]["shape"] == [64, 48]
    # What was asked for is meant for the conversion, not for the unpacking before it.
    assert target.forms[-1]["options"] == {"sensor": "auto", "codec": "auto", **asked}
    assert [axis["spacing"] for axis in target.forms[-1]["axes"]] == [0.5, 0.25]
    processor.convert_again(dataset.uuid, request="click")
    assert len(types_of(site, dataset)) == 2
    # Later conversions too are of what was in it, and not of the archive beside that.
    processor.convert_again(dataset.uuid, request="another click")
    _, *conversions = site.queue.list_jobs(dataset_uuid=dataset.uuid)
    inputs = {job.parameters["input_path"] for job in conversions}
    assert (len(conversions), inputs) == (2, {f"datasets/{dataset.uuid}/source/scan"})


@pytest.mark.long
def test_what_is_unpacked_counts_against_the_quota(site: Site, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "scan.zip", {"noise.bin": bytes(200_000)})
    processor = UploadProcessor(site.store, data_dir=site.root, limits=Limits(quota_bytes=100_000))
    dataset = processor.ingest([archive], user=ADA, name="scan")

    site.worker(tasks=())

    assert "bytes that are left for it" in (site.settled(dataset.uuid, DatasetStatus.UNZIP_ERROR).error or "")


@pytest.mark.long
def test_a_worker_killed_while_it_unpacks_leaves_nothing_half_unpacked(
    site: Site, processor: UploadProcessor, tmp_path: Path
) -> None:
    noise = np.random.default_rng(5).bytes(24 << 20)
    archive = tmp_path / "scan.tar.xz"
    with tarfile.open(archive, "w:xz", preset=0) as opened:
        for name, content in {**slices(2), "noise.bin": noise}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            opened.addfile(entry, io.BytesIO(content))
    dataset = processor.ingest([archive], user=ADA, name="scan")
    root = site.folder(dataset.uuid).root

    first = site.worker("ada", tasks=())
    eventually(lambda: any(path.is_file() for path in root.glob("partial.1/files/**/*")), "was in the middle")
    first.kill()
    assert [path.name for path in (root / "source").iterdir()] == ["scan.tar.xz"]
    assert set(files_of(site, dataset)) == {"scan.tar.xz"}
    site.worker("bob", tasks=())

    site.settled(dataset.uuid, DatasetStatus.DONE)
    assert types_of(site, dataset) == [("file_extraction", "completed"), ("dataset_conversion", "completed")]
    assert (root / "source" / "scan" / "noise.bin").read_bytes() == noise
    assert len(files_of(site, dataset)) == 4


def arrived_by_hand(site: Site, dataset: Dataset, *, recorded: bool, completed: bool) -> str:
    """What a worker does of an extraction before it dies: up to the arrival, the records, or the job's end."""
    job = site.queue.get_next_job("dead")
    assert job is not None
    forms = open_forms(site.root)
    output = forms.begin(dataset.uuid, job_id=job.job_id, token=job.token)
    assert output is not None
    (output / "files").mkdir()
    for name, content in slices(2).items():
        (output / "files" / Path(name).name).write_bytes(content)
    (output / "listing").write_text(
        "".join(
            f'{{"path": "scan/{Path(name).name}", "size_bytes": {len(content)}, "sha256": null}}\n'
            for name, content in slices(2).items()
        )
    )

    def insist(call: object) -> None:
        if not recorded:
            raise InterruptedError
        assert callable(call)
        call()

    try:
        outcome = arrival.bring(
            Outcome(),
            Arrival(folder="files", at="scan", listing="listing"),
            store=site.store,
            forms=forms,
            job=job,
            output=output,
            insist=insist,
        )
    except InterruptedError:
        outcome = None
    if completed:
        assert outcome is not None
        site.queue.complete_job(job, outcome.result)
    return job.job_id


def test_a_death_after_the_files_took_their_place_is_healed(
    site: Site, processor: UploadProcessor, tmp_path: Path
) -> None:
    cut_short = []
    for recorded, completed in ((False, False), (True, False), (True, True)):
        dataset = processor.ingest([zipped(tmp_path / "scan.zip", slices(2))], user=ADA, name="scan")
        cut_short.append((dataset, arrived_by_hand(site, dataset, recorded=recorded, completed=completed)))
    for _, job_id in cut_short:
        if site.found(job_id).status is JobStatus.RUNNING:
            site.queue.release_job(site.found(job_id))  # as a lost lease does, sooner

    site.worker("heir", tasks=(), slots=2)

    for dataset, job_id in cut_short:
        target = site.settled(dataset.uuid, DatasetStatus.DONE)
        assert types_of(site, dataset) == [("file_extraction", "completed"), ("dataset_conversion", "completed")]
        assert target.forms[-1]["shape"] == [2, 64, 48]
        assert set(files_of(site, dataset)) == {"scan.zip", "scan/z000.tif", "scan/z001.tif"}
        assert site.found(job_id).status is JobStatus.COMPLETED


def test_a_retried_extraction_does_not_write_over_what_another_brought(busy: Site, tmp_path: Path) -> None:
    site = busy
    dataset = ingested(site, zipped(tmp_path / "scan.zip", slices(1)), convert=False)
    (site.folder(dataset.uuid).source / "scan").mkdir()
    (site.folder(dataset.uuid).source / "scan" / "mine.tif").write_text("mine")

    UploadProcessor(site.store, data_dir=site.root).convert_again(dataset.uuid, request="click")
    target = site.settled(dataset.uuid, DatasetStatus.UNZIP_ERROR)

    assert "has files at 'scan' already" in (target.error or "")
    assert [path.name for path in (site.folder(dataset.uuid).source / "scan").iterdir()] == ["mine.tif"]
