"""`scientistcloud jobs` and `stats`, as an operator types them, on a real database."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from scientistcloud import JobQueueManager, open_store
from scientistcloud.cli import main


class Said(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """What a command prints, run in this process: a new one takes a second each time."""
    monkeypatch.setenv("SCIENTISTCLOUD_DATA_DIR", str(tmp_path))

    def command(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["scientistcloud", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, *capsys.readouterr())

    return command


@pytest.fixture
def job_id(tmp_path: Path) -> str:
    store = open_store(f"sqlite:///{tmp_path / 'scientistcloud.db'}")
    created = JobQueueManager(store).create_job(
        dataset_uuid=str(uuid.uuid4()), job_type="dataset_conversion", parameters={"sensor_type": "TIFF"}
    )
    store.close()
    return created


def test_an_operator_lists_shows_cancels_and_retries_a_job(run: Run, job_id: str) -> None:
    listed = run("jobs", "list", "--json")
    cancelled = run("jobs", "cancel", job_id)
    shown = run("jobs", "show", job_id, "--json")
    again = run("jobs", "retry", job_id)
    table = run("jobs", "list", "--status", "pending")

    assert [job["job_id"] for job in json.loads(listed.stdout)] == [job_id]
    assert cancelled.stdout == f"{job_id} is cancelled\n"
    assert json.loads(shown.stdout)["status"] == "cancelled"
    assert again.stdout == f"{job_id} is pending\n"
    assert job_id in table.stdout


def test_cancelling_a_job_that_has_ended_says_so_in_one_line(run: Run, job_id: str) -> None:
    run("jobs", "cancel", job_id)

    again = run("jobs", "cancel", job_id)

    assert again.returncode == 2
    assert len(again.stderr.splitlines()) == 1
    assert job_id in again.stderr


def test_a_job_without_an_attempt_has_no_log_and_says_so(run: Run, job_id: str) -> None:
    said = run("jobs", "logs", job_id)

    assert said.returncode == 0
    assert said.stdout == ""
    assert "no attempt of it has begun" in said.stderr


def test_the_figures_of_the_queue_count_what_waits(run: Run, job_id: str) -> None:
    stats = json.loads(run("stats", "--json").stdout)

    assert stats["by_status"]["pending"] == 1
    assert stats["waiting"]["nothing"] == 1
    assert stats["workers"] == []
    assert job_id


def test_verify_prints_the_three_checks_and_succeeds(run: Run, job_id: str) -> None:
    said = run("verify")

    assert said.returncode == 0, said.stdout
    assert said.stdout.count("yes (") == 3
    assert said.stdout.count("sent: ") >= 3
    assert job_id


def test_looking_at_a_folder_without_a_database_makes_none(run: Run, tmp_path: Path) -> None:
    said = run("jobs", "list")

    assert said.returncode == 2
    assert "SCIENTISTCLOUD_DATA_DIR" in said.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["nonsense"], ["jobs", "show"], ["jobs", "list", "--limit", "many"]])
def test_a_wrong_word_is_one_line_and_status_2(run: Run, words: list[str]) -> None:
    said = run(*words)

    assert said.returncode == 2
    assert len(said.stderr.splitlines()) == 1


def test_a_wrong_setting_names_its_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIENTISTCLOUD_PORT", "http")

    said = run("stats")

    assert said.returncode == 2
    assert "SCIENTISTCLOUD_PORT" in said.stderr
    assert len(said.stderr.splitlines()) == 1
