"""One portal for all that is sent to it: it takes longer to start than most tests take."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from intake_site import BEARER, MAX_UPLOAD_BYTES, QUOTA_BYTES, Portal


@pytest.fixture(scope="session")
def _running_portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    """One for each xdist worker."""
    portal = Portal(
        tmp_path_factory.mktemp("portal"),
        {
            "SCIENTISTCLOUD_MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES),
            "SCIENTISTCLOUD_QUOTA_BYTES": str(QUOTA_BYTES),
            "SCIENTISTCLOUD_DISK_RESERVE_BYTES": "0",
        },
    )
    portal.start()
    yield portal
    portal.stop()


@pytest.fixture
def portal(_running_portal: Portal) -> Portal:
    """It goes on running. Data sets and uploads of earlier tests are there; `Portal.uploads` leaves them out."""
    _running_portal.earlier = set()
    _running_portal.earlier = set(_running_portal.uploads())
    return _running_portal


@pytest.fixture
def client(portal: Portal) -> Iterator[httpx.Client]:
    """Whoever its headers say."""
    with portal.client() as client:
        yield client


@pytest.fixture
def owner(portal: Portal) -> Iterator[httpx.Client]:
    """Whoever holds the token."""
    with portal.client(headers=BEARER) as client:
        yield client
