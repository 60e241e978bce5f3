"""The job type `dataset_deletion`: what lies in the folder of a deleted data set, removed.

The service then removes what is left of the folder and the record; each step can be repeated.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from scientistcloud.datasets.lifecycle import DELETION
from scientistcloud.errors import Unavailable
from scientistcloud.tasks.contract import Outcome, Work


class DeletionTask:
    """Removes; links are removed and never followed."""

    job_type = DELETION

    def run(self, work: Work) -> Outcome:
        folder = work.output.parent
        # The guard stays for the service, which holds it while the folder itself goes.
        doomed = [each for each in folder.iterdir() if each != work.output and not each.name.startswith(".guard")]
        total = sum(1 for each in doomed for _ in _below(each))
        files = size_bytes = 0
        for done, path in enumerate(inside for each in doomed for inside in _below(each)):
            try:
                facts = path.lstat()
                if path.is_dir() and not path.is_symlink():
                    path.rmdir()
                else:
                    path.unlink()
                    files, size_bytes = files + 1, size_bytes + facts.st_size
            except FileNotFoundError:
                pass  # somebody was faster
            except OSError as failed:
                raise Unavailable(
                    f"{path} cannot be removed: {failed.strerror}; see to its rights, it is tried again"
                ) from failed
            work.report(done / total, f"removing, {files} files so far")
        return Outcome(result={"files": files, "size_bytes": size_bytes})


def _below(path: Path) -> Iterator[Path]:
    """`path` and all that is in it, what is inside before what holds it."""
    if path.is_dir() and not path.is_symlink():
        for parent, folders, files in os.walk(path, topdown=False):
            for name in files:
                yield Path(parent, name)
            for name in folders:
                if Path(parent, name).is_symlink():
                    yield Path(parent, name)
            yield Path(parent)
    else:
        yield path
