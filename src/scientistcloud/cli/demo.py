"""``scientistcloud demo``: one data set all the way, over HTTP, on a scratch data folder."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from scientistcloud.client import Client
from scientistcloud.errors import InvalidSettings, ScientistCloudError, Unavailable
from scientistcloud.settings import PREFIX, read_settings

_START_SECONDS = 60
_SAMPLE = ("sample_data", "NEMO", "nemo_1m_20150101-20150201_grid-T.nc")  # sea surface, NEMO ocean model


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--exit", "leave", is_flag=True, help="End when the data set is shown, also on a terminal.")
def command(path: Path | None, leave: bool) -> int:
    """One data set all the way: uploaded, converted, shown.

    PATH is a file or folder of yours; without it a real ocean data set is taken.
    """
    source = sample() if path is None else path
    if not source.exists():
        raise InvalidSettings(f"there is nothing at {source}; name a file or folder that exists")
    with _scratch_folder() as data_dir, _serving(data_dir, _database_of_its_own(data_dir)) as portal:
        done = Walk(portal, data_dir).run(source)
        stay = sys.stdout.isatty() and not leave
        if stay:
            click.echo("\nServing until Ctrl-C; then all of this is removed.")
            with contextlib.suppress(KeyboardInterrupt):
                portal.process.wait()
    return 0 if done else 1


def sample() -> Path:
    """The real data set of the extra `demo`: the sea surface as the NEMO ocean model has it for January 2015."""
    found = importlib.util.find_spec("iris_sample_data")
    if found is None or found.origin is None:
        raise InvalidSettings(
            "the sample data set is not installed; install scientistcloud[demo], or name a file: "
            "scientistcloud demo PATH"
        )
    return Path(found.origin).parent.joinpath(*_SAMPLE)


class Walk:
    """The steps, each printed with its time since the start."""

    def __init__(self, portal: Portal, data_dir: Path) -> None:
        self.portal, self.data_dir = portal, data_dir
        self.client = Client(server=portal.address, token=portal.token)
        self.began = time.monotonic()

    def say(self, what: str, text: str) -> None:
        click.echo(f"{time.monotonic() - self.began:7.2f} s  {what:12} {text}")

    def run(self, source: Path) -> bool:
        """Whether the conversion is done and every value of the default field reads back."""
        dataset_uuid = self.client.upload([source], name=source.name)
        dataset = self.client.dataset(dataset_uuid)
        self.say("uploaded", f"{source.name}, {_size(dataset['size_bytes'])}, as data set {dataset_uuid}")
        job = self._first_job(dataset_uuid)
        self.say("job created", f"{job['job_id']}, {job['job_type']}, at {_clock(job['created_at'])}")
        job = self._follow(job)
        if job["status"] != "completed":
            error = (job["error"] or {}).get("message", "its log says more")
            self.say(job["status"], error)
            return False
        dataset = self._settled(dataset_uuid)
        form = dataset["forms"][-1]
        levels = " → ".join("×".join(map(str, level["shape"])) for level in form["levels"])
        self.say("converted", f"{form['sensor']} {form['variable']}: {form['dtype']}, {levels}")
        self.say("", f"{len(form['levels'])} levels, {_size(form['size_bytes'])} in OME-Zarr 0.5")
        self.say("status", dataset["status"])
        checked = self._read_back(dataset_uuid, source)
        self.say("page", f"{self.portal.address}/datasets/{dataset_uuid}?token={self.portal.token}")
        return checked and dataset["status"] == "done"

    def _first_job(self, dataset_uuid: str) -> dict[str, Any]:
        for _ in range(100):
            if jobs := self.client.jobs(dataset_uuid):
                return jobs[0]
            time.sleep(0.05)
        raise Unavailable("no job was created for the data set; see the portal's messages above")

    def _follow(self, job: dict[str, Any]) -> dict[str, Any]:
        claimed = False
        while True:
            job = self.client.job(job["job_id"])
            if job["worker_id"] and not claimed:
                claimed = True
                self.say("claimed", f"by worker {job['worker_id']} at {_clock(job['started_at'])}")
            if job["status"] in ("completed", "failed", "cancelled"):
                return job
            self.portal.must_live()
            time.sleep(0.05)

    def _settled(self, dataset_uuid: str) -> dict[str, Any]:
        """The data set once its status has followed the job's end, which is written right after it."""
        for _ in range(100):
            dataset = self.client.dataset(dataset_uuid)
            if dataset["status"] not in ("conversion queued", "converting"):
                break
            time.sleep(0.05)
        return dataset

    def _read_back(self, dataset_uuid: str, source: Path) -> bool:
        from scientistcloud.tasks.conversion import compare  # heavy, and needed here alone

        store = self.data_dir / "datasets" / dataset_uuid / "converted.ome.zarr"
        try:
            values = compare(store, source)
        except ScientistCloudError as differs:
            self.say("read back", str(differs))
            return False
        self.say("read back", f"all {values:,} values of the default field equal the source's")
        return True


class Portal:
    """A running ``scientistcloud serve``."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, token: str) -> None:
        self.process, self.address, self.token = process, address, token

    def must_live(self) -> None:
        if self.process.poll() is not None:
            raise Unavailable(f"the portal ended with status {self.process.returncode}; see its messages above")


def _database_of_its_own(data_dir: Path) -> str:
    """The address of a database that nobody else uses: the demo's worker would take other people's jobs.

    One on a server that the settings name, as long as it is empty; else an embedded one in the scratch folder.
    """
    from scientistcloud.assembly import open_store  # the driver of that database, needed here alone

    embedded = f"sqlite:///{data_dir / 'scientistcloud.db'}"
    named = read_settings(data_dir=data_dir).store_url
    if named.startswith("sqlite:"):
        return embedded
    store = open_store(named)
    try:
        used = store.jobs.find(limit=1) or store.workers.all()
    finally:
        store.close()
    if used:
        click.echo("The database that DATABASE_URL names is in use; the demo takes an embedded one of its own.")
        return embedded
    return named


@contextlib.contextmanager
def _serving(data_dir: Path, database_url: str) -> Iterator[Portal]:
    environment = {
        **os.environ,
        f"{PREFIX}DATA_DIR": str(data_dir),
        f"{PREFIX}DATABASE_URL": database_url,
        f"{PREFIX}HOST": "127.0.0.1",
        f"{PREFIX}PORT": "0",
        f"{PREFIX}PUBLIC_URL": "",
    }
    log = (data_dir / "serve.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "scientistcloud", "serve", "--workers", "1"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl-C is for us; we end it in order
    )
    try:
        yield _wait_until_up(process, data_dir)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _wait_until_up(process: subprocess.Popen[bytes], data_dir: Path) -> Portal:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(FileNotFoundError, ValueError):
            said = json.loads((data_dir / "portal.json").read_text())
            return Portal(process, said["address"], said["token"])
        time.sleep(0.05)
    last = (data_dir / "serve.log").read_text(errors="replace").strip().splitlines()[-1:]
    raise Unavailable(f"the portal did not start: {''.join(last) or 'it said nothing'}")


@contextlib.contextmanager
def _scratch_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="scientistcloud-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _size(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _clock(iso: str) -> str:
    return iso[11:23]
