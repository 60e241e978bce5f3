"""The background service at work, as in `test_service`, on a server that speaks MongoDB's protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_site import Site
from test_service import *  # noqa: F403  each of its tests again

from scientistcloud import UploadProcessor

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", autouse=True)
def _on_a_server(mongodb_server: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Site, "server", mongodb_server)
        yield


def test_worker_and_intake_share_a_bell_in_the_data_folder(own_site: Site) -> None:
    UploadProcessor(own_site.store, data_dir=own_site.root)
    worker = own_site.worker()

    for process in (os.getpid(), worker.process.pid):
        opened = {path.readlink() for path in Path(f"/proc/{process}/fd").iterdir() if path.is_symlink()}
        assert own_site.settings.folder.bell in opened
