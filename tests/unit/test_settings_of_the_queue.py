"""Settings of the queue that have a form of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from scientistcloud.errors import InvalidSettings
from scientistcloud.settings import read_settings


def test_limits_by_type_are_read_from_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIENTISTCLOUD_JOB_TYPE_LIMITS", "dataset_import=2, file_extraction=1,")

    assert read_settings(data_dir=tmp_path).job_type_limits == {"dataset_import": 2, "file_extraction": 1}


def test_limits_by_type_may_stand_in_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SCIENTISTCLOUD_JOB_TYPE_LIMITS=dataset_import=2,dataset_conversion=1\n")

    assert read_settings(data_dir=tmp_path).job_type_limits == {"dataset_import": 2, "dataset_conversion": 1}


def test_without_a_line_there_are_no_limits(tmp_path: Path) -> None:
    assert read_settings(data_dir=tmp_path).job_type_limits == {}


@pytest.mark.parametrize("wrong", ["2", "dataset_import=0", "dataset_import=many", "=2", "dataset_import=-1"])
def test_limits_that_mean_nothing_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("SCIENTISTCLOUD_JOB_TYPE_LIMITS", wrong)

    with pytest.raises(InvalidSettings, match=r"SCIENTISTCLOUD_JOB_TYPE_LIMITS .* TYPE=N,TYPE=N"):
        read_settings(data_dir=tmp_path)


def test_a_log_of_an_unknown_form_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIENTISTCLOUD_LOG_FORMAT", "xml")

    with pytest.raises(InvalidSettings, match="SCIENTISTCLOUD_LOG_FORMAT"):
        read_settings(data_dir=tmp_path)
