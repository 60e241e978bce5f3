"""Credentials lie sealed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from scientistcloud.access.sealing import Sealing
from scientistcloud.errors import InvalidSettings, NotFound

SECRET = {"password": "correct horse \N{HORSE}", "login": "ada"}


def test_what_was_sealed_is_opened_by_the_same_data_folder_alone(tmp_path: Path) -> None:
    sealed = Sealing(tmp_path / "key").seal(SECRET)

    assert Sealing(tmp_path / "key").open(sealed) == SECRET
    assert "horse" not in sealed
    with pytest.raises(NotFound, match="begin the import again"):
        Sealing(tmp_path / "another").open(sealed)


def test_the_key_is_its_owners_alone(tmp_path: Path) -> None:
    sealing = Sealing(tmp_path / "key")
    sealed = sealing.seal(SECRET)

    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(InvalidSettings, match="chmod 600"):
        sealing.open(sealed)


def test_all_who_begin_at_once_have_the_same_key(tmp_path: Path) -> None:
    start, sealed = threading.Barrier(8), []

    def begin() -> None:
        start.wait()
        sealed.append(Sealing(tmp_path / "key").seal(SECRET))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [Sealing(tmp_path / "key").open(each) for each in sealed] == [SECRET] * 8
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
