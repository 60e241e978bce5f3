"""`scientistcloud demo`, as a person's first minute has it: real processes, real HTTP, a real file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from records_at_hand import records
from scientistcloud.assembly import open_store
from scientistcloud.records import JobStatus, NewJob


def demo(*words: str, scratch: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scientistcloud", "demo", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "TMPDIR": str(scratch)},
    )


def test_the_demo_takes_a_real_ocean_data_set_all_the_way_and_leaves_all_else_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, scratch = tmp_path / "mine", tmp_path / "scratch"
    mine.mkdir()
    scratch.mkdir()
    monkeypatch.setenv("SCIENTISTCLOUD_DATA_DIR", str(mine))

    said = demo(scratch=scratch)

    assert said.returncode == 0, said.stdout + said.stderr
    steps = [line[11:].split("  ")[0].strip() for line in said.stdout.splitlines()]
    assert [step for step in steps if step] == [
        "uploaded", "job created", "claimed", "converted", "status", "read back", "page",
    ]  # fmt: skip
    assert re.search(r"as data set [0-9a-f-]{36}$", said.stdout, re.MULTILINE)
    assert "float32, 1×330×360 → 1×165×180" in said.stdout
    assert "all 118,800 values of the default field equal the source's" in said.stdout
    assert re.search(r"page +http://127\.0\.0\.1:\d+/datasets/[0-9a-f-]{36}", said.stdout)
    assert list(scratch.iterdir()) == [], "the demo left something behind"
    assert list(mine.iterdir()) == []


def test_the_demo_runs_on_a_database_server_too(
    mongodb_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIENTISTCLOUD_DATABASE_URL", mongodb_url)

    said = demo(scratch=tmp_path)

    assert said.returncode == 0, said.stdout + said.stderr
    assert "all 118,800 values of the default field equal the source's" in said.stdout
    (job,) = records(mongodb_url, "jobs")
    (dataset,) = records(mongodb_url, "visstoredatas")
    assert (job["status"], dataset["status"], job["dataset_uuid"]) == ("completed", "done", dataset["uuid"])
    assert list(tmp_path.iterdir()) == [], "the demo left something behind"


def test_a_file_that_cannot_be_converted_ends_the_demo_with_its_reason(data: Path, tmp_path: Path) -> None:
    said = demo(str(data / "bad" / "corrupt.tif"), scratch=tmp_path)

    assert said.returncode == 1
    assert re.search(r"failed +corrupt\.tif", said.stdout)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_is_a_callers_mistake(tmp_path: Path) -> None:
    said = demo("nothing.tif", scratch=tmp_path)

    assert said.returncode == 2
    assert "nothing.tif" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_the_demo_takes_nobody_elses_jobs(
    mongodb_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIENTISTCLOUD_DATABASE_URL", mongodb_url)
    store = open_store(mongodb_url)
    new = NewJob(job_id="theirs", dataset_uuid="their-data-set", job_type="dataset_conversion", parameters={})
    store.jobs.create([new])
    tifffile.imwrite(tmp_path / "small.tif", np.arange(600, dtype=np.uint16).reshape(20, 30))

    said = demo(str(tmp_path / "small.tif"), scratch=tmp_path)

    assert said.returncode == 0, said.stdout + said.stderr
    assert "the demo takes an embedded one of its own" in said.stdout
    (job,) = store.jobs.find()
    assert (job.job_id, job.status, job.attempt) == ("theirs", JobStatus.PENDING, 0)
    assert store.workers.all() == []
    store.close()
