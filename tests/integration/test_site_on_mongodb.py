"""Care, live pages and the portal's jobs, as in their own tests, on a server that speaks MongoDB's protocol."""

from __future__ import annotations

import pytest
import test_care
import test_portal_events
import test_portal_jobs
from test_care import place as place
from test_portal_events import site as site

pytestmark = pytest.mark.long

_TESTS = [
    (name, each)
    for module in (test_care, test_portal_events, test_portal_jobs)
    for name, each in vars(module).items()
    if name.startswith("test_")
]
globals().update(_TESTS)


@pytest.fixture(autouse=True)
def _on_a_server(mongodb_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIENTISTCLOUD_DATABASE_URL", mongodb_url)


def test_none_of_them_hides_another() -> None:
    names = [name for name, _ in _TESTS]

    assert len(names) == len(set(names)) > 30
