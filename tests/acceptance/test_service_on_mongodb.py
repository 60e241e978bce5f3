"""The background service at work, as in `test_service`, on a server that speaks MongoDB's protocol."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from service_site import Site
from test_service import *  # noqa: F403  each of its tests again

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", autouse=True)
def _on_a_server(mongodb_server: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Site, "server", mongodb_server)
        yield
