"""What the browser tests stand on: `scientistcloud serve` as a process, and a browser with open ears."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Frame, Page, Response

from scientistcloud.client import Client

Pixels = NDArray[np.uint8]
#: A browser without a graphics card, and without a word to its maker.
FLAGS = [
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
]
PATIENCE = 60_000  # milliseconds; two cores shared with a worker and a software renderer


class Served:
    """A running portal with a worker."""

    def __init__(self, address: str, token: str, data_dir: Path) -> None:
        self.address, self.token, self.data_dir = address, token, data_dir

    def client(self) -> Client:
        return Client(server=self.address, token=self.token)

    def uploaded(self, *paths: Path, name: str | None = None) -> str:
        """A data set of `paths` whose conversion has ended, well or not."""
        with self.client() as client:
            uuid = client.upload(list(paths), name=name or paths[0].name)
            client.wait(uuid)
        return uuid


@contextlib.contextmanager
def serve(data_dir: Path) -> Iterator[Served]:
    environment = os.environ | {"SCIENTISTCLOUD_DATA_DIR": str(data_dir), "SCIENTISTCLOUD_PORT": "0"}
    log = (data_dir / "serve.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "scientistcloud", "serve", "--workers", "1"],
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (data_dir / "portal.json").exists():
            assert process.poll() is None, (data_dir / "serve.log").read_text()
            assert time.monotonic() < deadline, "the portal does not start"
            time.sleep(0.05)
        said = json.loads((data_dir / "portal.json").read_text())
        yield Served(said["address"], said["token"], data_dir)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


class Browsing:
    """One person's browser window."""

    def __init__(self, browser: Browser, served: Served, **options: Any) -> None:
        self.served = served
        #: Errors of the console, uncaught exceptions, refused resources, requests to anywhere else.
        self.complaints: list[str] = []
        #: Answers that a test brings about on purpose: parts of their addresses.
        self.expected: list[str] = []
        known: dict[str, Any] = {"viewport": {"width": 1000, "height": 620}}
        self.context: BrowserContext = browser.new_context(**(known | options))
        self.context.set_default_timeout(PATIENCE)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("response", self._response)
        self.page.on("dialog", self._dialog)

    def _dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, message: ConsoleMessage) -> None:
        # Chromium's own remark on reading pixels back from a software renderer is no error of ours.
        if message.type == "error" and not any(part in message.text for part in self.expected):
            address = message.location.get("url", "")
            if not any(part in address for part in self.expected):
                self.complaints.append(f"console: {message.text} {address}")

    def _response(self, response: Response) -> None:
        if not response.url.startswith((self.served.address, "blob:", "data:")):
            self.complaints.append(f"a request to elsewhere: {response.url}")
        if response.status >= 400 and not any(part in response.url for part in self.expected):
            self.complaints.append(f"{response.status} {response.request.method} {response.url}")

    def log_in(self) -> None:
        """With the printed token, on the smallest page that takes it."""
        self.context.request.get(f"{self.served.address}/login", params={"token": self.served.token})

    def log_in_here(self) -> None:
        """As a person does: by the printed link."""
        self.page.goto(f"{self.served.address}/?token={self.served.token}")
        assert "token" not in self.page.url

    def open(self, path: str) -> None:
        self.page.goto(self.served.address + path)

    def viewer(self) -> Frame:
        """The viewer's frame on the page of a data set, once it shows something."""
        self.page.wait_for_selector("#stage[data-ready]")
        return next(frame for frame in self.page.frames if "/view/" in frame.url)

    def close(self) -> None:
        self.context.close()


# -- pixels --------------------------------------------------------------------------------------


def pixels_of(element: Any) -> Pixels:
    """What is on the screen there: rows × columns × (red, green, blue)."""
    return np.asarray(Image.open(io.BytesIO(element.screenshot())).convert("RGB"))


def where(frame: Frame) -> dict[str, float]:
    """How the viewer's plane lies on the screen: the centre's voxel, voxels per pixel."""
    found: dict[str, float] = frame.evaluate(
        """() => {
          const { displayDimensionIndices: [x, y] } = viewer.displayDimensionRenderInfo.value;
          const lower = viewer.coordinateSpace.value.bounds.lowerBounds;
          return { x: viewer.position.value[x] - lower[x] - 0.5, y: viewer.position.value[y] - lower[y] - 0.5,
                   scale: viewer.crossSectionScale.value,
                   flipped: viewer.crossSectionOrientation.toJSON() ? 1 : 0 };
        }"""
    )
    return found


def shown(frame: Frame, shape: tuple[int, int], *, samples: int = 12) -> tuple[Pixels, NDArray[Any], NDArray[Any]]:
    """Colours on the screen at a grid of voxels of the plane: samples × samples × 3, with the rows and columns.

    A voxel is read at its centre; those at the very edge and under the scale bar are left out.
    """
    place = where(frame)
    screen = pixels_of(frame.locator("canvas").first)
    height, width = screen.shape[:2]
    rows = np.unique(np.linspace(1, shape[0] - 2, samples).astype(int))
    columns = np.unique(np.linspace(1, shape[1] - 2, samples).astype(int))
    sign = -1 if place["flipped"] else 1
    y = np.round(height / 2 + sign * (rows - place["y"]) / place["scale"] - 0.5).astype(int)
    x = np.round(width / 2 + (columns - place["x"]) / place["scale"] - 0.5).astype(int)
    seen_y, seen_x = (y >= 0) & (y < height - 40), (x >= 0) & (x < width)
    assert seen_y.sum() >= samples // 2
    assert seen_x.sum() >= samples // 2
    return screen[np.ix_(y[seen_y], x[seen_x])], rows[seen_y], columns[seen_x]


def until(check: Callable[[], None], *, seconds: float = 60) -> None:
    """Try `check` until it holds: pictures come in pieces."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def assert_plane(frame: Frame, expected: NDArray[Any], *, tolerance: float = 6) -> None:
    """The plane on the screen has the colours `expected`: rows × columns × 3, 0 to 255."""

    def check() -> None:
        colours, rows, columns = shown(frame, (expected.shape[0], expected.shape[1]))
        wanted = expected[np.ix_(rows, columns)].astype(float)
        difference = np.abs(colours.astype(float) - wanted).max(axis=-1)
        assert difference.max() <= tolerance, difference.max()

    until(check)


def gray(values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    """`values` as grays from black at `low` to white at `high`."""
    share = np.clip((values.astype(float) - low) / (high - low), 0, 1)
    return np.repeat(np.round(255 * share)[..., None], 3, axis=-1)
