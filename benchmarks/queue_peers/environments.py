"""A virtual environment for each peer, made once and kept in the user's cache folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from servers import Missing


def python_with(name: str, requirements: tuple[str, ...]) -> str:
    """The Python of an environment that has `requirements`. Raises `Missing` where they cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scientistcloud-benchmarks"
    folder = cache / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python, complete = folder / "bin" / "python", folder / "complete"
    wanted = "\n".join(requirements)
    if complete.exists() and complete.read_text() == wanted:
        return str(python)
    print(f"Installing {name} into {folder} (once) ...", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        venv.create(folder, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        subprocess.run(command, check=True, timeout=300, capture_output=True, text=True)
    except (subprocess.SubprocessError, OSError) as failed:
        said = getattr(failed, "stderr", None) or str(failed)
        raise Missing(f"{name} could not be installed ({said.strip().splitlines()[-1]})") from failed
    complete.write_text(wanted)
    return str(python)
