"""Real files, servers and a real browser for the tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from mongo_server import MongoServer, drop, empty, new_database, real_server
from records_at_hand import database_url as new_database_url
from requirements import unavailable

# An example may take as long as it likes: what is slow on a busy machine is no bug.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

_KEPT = ("SCIENTISTCLOUD_TEST_MONGODB_URL", "SCIENTISTCLOUD_TEST_DATA", "SCIENTISTCLOUD_TEST_CHROMIUM")
for _name in [name for name in os.environ if name.startswith("SCIENTISTCLOUD_") and name not in _KEPT]:
    del os.environ[_name]  # the settings of whoever runs the tests decide nothing here


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real test files (``../shared/data``, or what SCIENTISTCLOUD_TEST_DATA names)."""
    named = os.environ.get("SCIENTISTCLOUD_TEST_DATA")
    found = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not found.is_dir():
        pytest.skip(f"the real test files are missing: name their folder in SCIENTISTCLOUD_TEST_DATA, not {found}")
    return found


@pytest.fixture(scope="session")
def chromium() -> str:
    found = os.environ.get("SCIENTISTCLOUD_TEST_CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if not found:
        unavailable("Chromium", "apt-get install chromium, or name one in SCIENTISTCLOUD_TEST_CHROMIUM")
    return found


@pytest.fixture(scope="session")
def mongodb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that speaks MongoDB's protocol: SCIENTISTCLOUD_TEST_MONGODB_URL, else one for each xdist worker."""
    if named := real_server():
        yield named.rstrip("/")
        return
    server = MongoServer(tmp_path_factory.mktemp("mongodb"))
    server.start()
    yield f"mongodb://{server.address}"
    server.kill()


@pytest.fixture(scope="session")
def _mongodb_database(mongodb_server: str) -> Iterator[str]:
    """One for each xdist worker: making its indexes anew for each test takes longer than most tests."""
    url = new_database(mongodb_server)
    yield url
    drop(url)


@pytest.fixture
def mongodb_url(_mongodb_database: str) -> Iterator[str]:
    """An empty database on it that nobody else uses."""
    yield _mongodb_database
    empty(_mongodb_database)


@pytest.fixture(params=["sqlite", "mongodb"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A new database of each kind."""
    return new_database_url(request, request.param)
