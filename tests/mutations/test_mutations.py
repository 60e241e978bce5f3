"""The guarantees that matter most, each broken on purpose in a copy of the source: a test has to notice.

A guarantee whose test would pass without it is no guarantee. Each mutation names the text that holds the guarantee;
where that text is gone from the source, the mutation fails too, and whoever moved it gives it its new place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "scientistcloud"
SIMULATE = "tests/simulation/simulate.py"


@dataclass(frozen=True, slots=True)
class Mutation:
    """One guarantee, how to break it, and what notices."""

    name: str
    file: str
    #: Texts of the source, each with what stands there instead.
    edits: tuple[tuple[str, str], ...]
    #: A test, or the program of the simulation with its arguments.
    noticed_by: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "a worker whose token is not the job's is refused",
        "jobs/lifecycle.py",
        (
            (
                "    if job.token == token and job.status is JobStatus.RUNNING:\n        return True\n",
                "    if job.status is JobStatus.RUNNING:\n        return True\n",
            ),
        ),
        ("tests/contract/test_sqlite_job_store.py", "-k", "lost_its_lease_changes_nothing"),
    ),
    Mutation(
        "a line has one head, and the database holds that",
        "database/mongo/migrations.py",
        (('Index(("head",), unique=True, sparse=True)', 'Index(("head",), sparse=True)'),),
        (SIMULATE, "mongo", "0:200"),
    ),
    Mutation(
        "a publication compares its token under the guard's lock",
        "storage/local.py",
        (
            (
                (
                    "                refuse_older(known, token, dataset_uuid)\n"
                    '                if known.published is not None and known.published["token"] == token:\n'
                ),
                '                if known.published is not None and known.published["token"] == token:\n',
            ),
        ),
        ("tests/integration/test_local_forms.py", "-k", "cannot_publish"),
    ),
    Mutation(
        "leases are measured by a clock that never jumps",
        "database/sqlite/jobs.py",
        (
            ("beat=self._clock.monotonic()", "beat=self._clock.now().timestamp()"),
            ('"beat": self._clock.monotonic()', '"beat": self._clock.now().timestamp()'),
        ),
        ("tests/integration/test_queue.py", "-k", "wall_clock"),
    ),
    Mutation(
        "the record promises a job before the job exists",
        "uploads/receiving.py",
        (
            (
                (
                    "            dataset = catalogue.close(\n"
                    "                self.store, upload.dataset_uuid, only_revision=0, "
                    "archive=self._archive(upload.dataset_uuid)\n"
                    "            )\n"
                    "            self._create_conversion_job(dataset)\n"
                ),
                (
                    "            from scientistcloud.datasets.catalogue import conversion\n"
                    "            from dataclasses import replace\n"
                    "            known = self._known(upload.dataset_uuid)\n"
                    "            promising = replace(known, wanted=conversion(known, revision=1))\n"
                    "            self._create_conversion_job(promising)\n"
                    "            catalogue.close(self.store, upload.dataset_uuid, only_revision=0)\n"
                ),
            ),
        ),
        ("tests/integration/test_upload_processor.py", "-k", "promises_the_job_before"),
    ),
    Mutation(
        "one key makes one job",
        "database/sqlite/steps.py",
        (
            (
                "if new.idempotency_key is not None and (known := self._known(new)) is not None:",
                "new = replace(new, idempotency_key=None)\n        if (known := None) is not None:",
            ),
        ),
        ("tests/contract/test_sqlite_job_store.py", "-k", "key"),
    ),
    Mutation(
        "nothing is answered before the disk has it",
        "database/sqlite/connection.py",
        (("            _sync(self._log)\n", "            pass\n"),),
        ("tests/integration/test_sqlite_file.py", "-k", "disk_did_not_take"),
    ),
    Mutation(
        "a sync that runs already covers nothing that is committed during it",
        "database/sqlite/connection.py",
        (
            (
                "            begun = next(self._tickets)\n            try:\n                _sync(self._log)\n",
                "            try:\n                _sync(self._log)\n                begun = next(self._tickets)\n",
            ),
        ),
        ("tests/integration/test_sqlite_file.py", "-k", "share_the_sync"),
    ),
    Mutation(
        "a line whose creator or ender died gets its head from care",
        "database/mongo/steps.py",
        (("        return sum(self.promote(dataset_uuid) for dataset_uuid in lines)\n", "        return 0\n"),),
        (SIMULATE, "mongo", "0:200"),
    ),
    Mutation(
        "a line takes no more than its cap, whoever races for the last place",
        "database/mongo/rooms.py",
        (('{"_id": dataset_uuid, "seq": lane["seq"]}', '{"_id": dataset_uuid}'),),
        ("tests/contract/test_mongo_job_store.py", "-k", "creators_that_race"),
    ),
    Mutation(
        "a finished form that its worker did not live to write down is written down before it is moved",
        "datasets/settling.py",
        (
            ("(found := unnamed(store, forms, target)) is not None and found.owed:", "False:"),
            ("form=found.form, sensor=found.sensor", "form=None, sensor=None"),
        ),
        ("tests/integration/test_care.py", "-k", "survives_a_next_job"),
    ),
    Mutation(
        "one byte wakes one worker",
        "database/fifo.py",
        ((" | select.EPOLLEXCLUSIVE", ""),),
        ("tests/integration/test_sqlite_waking.py", "-k", "hundred_idle"),
    ),
    Mutation(
        "a lease counts from when its heartbeat was sent",
        "service/lease.py",
        (("        self._renewed_at = sent\n", "        self._renewed_at = self._now()\n"),),
        ("tests/unit/test_lease.py",),
    ),
)


def noticed(source: Path, by: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, *by]
    if by[0] != SIMULATE:
        program[1:1] = [
            "-m",
            "pytest",
            "-q",
            "-x",
            "--numprocesses=0",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
        ]
    environment = os.environ | {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in [name for name in environment if name.startswith(("PYTEST", "COV"))]:
        del environment[name]
    return subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.long
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name.replace(" ", "-"))
def test_a_broken_guarantee_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "scientistcloud", ignore=shutil.ignore_patterns("__pycache__", "static"))
    file = tmp_path / "scientistcloud" / mutation.file
    text = file.read_text()
    for before, after in mutation.edits:
        assert text.count(before) == 1, f"{mutation.file} no longer holds {before!r} once; name its new place"
        text = text.replace(before, after)
    file.write_text(text)

    whole = noticed(ROOT / "src", mutation.noticed_by)
    broken = noticed(tmp_path, mutation.noticed_by)

    assert whole.returncode == 0, whole.stdout[-3000:] + whole.stderr[-3000:]
    # 1: tests failed; not that none was found, or that nothing could be imported.
    assert broken.returncode == 1, f"nothing noticed it:\n{broken.stdout[-3000:]}{broken.stderr[-3000:]}"
    assert "FAILED" in broken.stdout
    assert "SyntaxError" not in broken.stdout + broken.stderr
    assert "ImportError" not in broken.stdout + broken.stderr
