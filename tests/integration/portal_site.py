"""A portal on a real store, served over real HTTP from a thread of the test's own process."""

from __future__ import annotations

import socket
import threading
import time
import uuid as uuids
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from scientistcloud.assembly import open_store
from scientistcloud.datasets.lifecycle import published
from scientistcloud.portal.app import STATIC, create_app
from scientistcloud.portal.server import PortalServer
from scientistcloud.ports import Store
from scientistcloud.records import Dataset, DatasetFile, DatasetStatus, NewJob
from scientistcloud.settings import Settings, read_settings

TOKEN = "portal-test-token"
ME, SOMEBODY_ELSE = "ada@example.org", "bob@example.org"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Site:
    """A running portal, and what its tests put into the store behind it."""

    #: Of the package: what is served without a log-in.
    static = STATIC

    def __init__(self, app: FastAPI, settings: Settings, store: Store, url: str) -> None:
        self.app, self.settings, self.store, self.url = app, settings, store, url

    def program(self) -> httpx.Client:
        """A client that sends the token with each request."""
        return httpx.Client(base_url=self.url, headers=BEARER, timeout=30)

    def stranger(self) -> httpx.Client:
        """A client that says nothing of who it is."""
        return httpx.Client(base_url=self.url, timeout=30)

    @contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        """A client that has logged in, with a cookie; it sends no CSRF token by itself."""
        with self.stranger() as client:
            assert client.get("/login", params={"token": TOKEN}).status_code == 303
            yield client

    def csrf(self, browser: httpx.Client) -> str:
        """The token that the portal's own pages carry."""
        return browser.get("/jobs").text.split('data-csrf="')[1].split('"')[0]

    def add_dataset(self, name: str = "set", **fields: Any) -> str:
        now = self.store.clock.now()
        known: dict[str, Any] = {
            "uuid": str(uuids.uuid4()), "user": ME, "name": name, "sensor": "TIFF", "status": DatasetStatus.DONE,
            "created_at": now, "updated_at": now, "closed_at": now, "revision": 1,
        }  # fmt: skip
        dataset = Dataset(**(known | fields))
        self.store.datasets.add(dataset)
        return dataset.uuid

    def add_file(self, uuid: str, path: str, content: bytes) -> None:
        target = self.settings.folder.dataset(uuid).source / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        self.store.datasets.put_files([DatasetFile(dataset_uuid=uuid, path=path, size_bytes=len(content))])

    def add_form(self, source: Path, name: str | None = None, *, token: int = 1, **fields: Any) -> str:
        """A data set with the form that the worker's own conversion makes of `source`."""
        from scientistcloud.tasks.conversion import convert

        uuid = self.add_dataset(name or source.name, **fields)
        folder = self.settings.folder.dataset(uuid)
        folder.root.mkdir(parents=True, exist_ok=True)
        form = convert(source, folder.converted, preview=folder.preview)
        before = self.store.datasets.get(uuid)
        assert before is not None
        made = form | {"token": token, "job_id": "made-by-the-test"}
        self.store.datasets.update(before, published(before, form=made, sensor=form["sensor"]))
        self.add_file(uuid, source.name, source.read_bytes())
        return uuid

    def add_job(self, uuid: str, *, key: str | None = None) -> str:
        job_id = str(uuids.uuid4())
        self.store.jobs.create(
            [
                NewJob(
                    job_id=job_id,
                    dataset_uuid=uuid,
                    job_type="dataset_conversion",
                    parameters={"input_path": f"datasets/{uuid}/source", "sensor_type": "auto"},
                    idempotency_key=key,
                )
            ]
        )
        return job_id


@contextmanager
def running_site(data_dir: Path, **overrides: Any) -> Iterator[Site]:
    """A portal on `data_dir`, ended with its streams."""
    known = {"data_dir": data_dir, "token": TOKEN, "user_email": ME, "port": 0}
    settings = read_settings(**(known | overrides))
    data_dir.mkdir(parents=True, exist_ok=True)
    store = open_store(settings.store_url)
    app = create_app(settings, store)
    listener = socket.create_server(("127.0.0.1", 0))
    server = PortalServer(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="portal")
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive(), "the portal did not start"
            assert time.monotonic() < deadline, "the portal does not start"
            time.sleep(0.01)
        yield Site(app, settings, store, f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
        store.close()
        assert not thread.is_alive(), "the portal did not end"
