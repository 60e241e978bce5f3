"""The job type `file_extraction`: an archive's files, unpacked beside it.

They appear in a folder of the archive's name, all of them or none; the archive stays as it came.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from scientistcloud.datasets.lifecycle import EXTRACTION
from scientistcloud.records import Json
from scientistcloud.settings import DISK_RESERVE_SHARE
from scientistcloud.tasks.contract import Arrival, Outcome, Work
from scientistcloud.uploads.archives import folder_for
from scientistcloud.uploads.unpacking import Limits, unpack

FILES, LISTING = "files", "listing"


class ExtractionTask:
    """`file_extraction`; parameters: `archive`, its path among the sources, and `limit_bytes`."""

    job_type = EXTRACTION

    def run(self, work: Work) -> Outcome:
        """Brings the files of the archive that is `work.source`."""
        archive = str(work.parameters["archive"])
        at = folder_for(archive)
        folder = work.output / FILES
        folder.mkdir()
        paths: list[str] = []
        size_bytes = 0
        with (work.output / "unpacked").open("w") as unpacked:
            for file in unpack(work.source, folder, limits=limits(work), report=work.report):
                unpacked.write(json.dumps(asdict(file)) + "\n")
                paths.append(file.path)
                size_bytes += file.size_bytes
        # A folder of the archive's own name, as most have, is not put into another one.
        own = Path(at).name
        doubled = all(path.startswith(f"{own}/") for path in paths)
        with (work.output / "unpacked").open() as unpacked, (work.output / LISTING).open("w") as listing:
            for line in unpacked:
                entry = json.loads(line)
                path = entry["path"].removeprefix(f"{own}/") if doubled else entry["path"]
                listing.write(json.dumps(entry | {"path": f"{at}/{path}"}) + "\n")
        if doubled:
            (folder / own).rename(work.output / "inner")
            folder.rmdir()
            (work.output / "inner").rename(folder)
        return Outcome(
            result={"archive": archive, "files": len(paths), "size_bytes": size_bytes},
            arrival=Arrival(folder=FILES, at=at, listing=LISTING),
        )


def limits(work: Work) -> Limits:
    """What the operator and the owner's room allow."""
    allowed: Json = work.allowed
    total = os.statvfs(work.output)
    reserve = allowed.get("disk_reserve_bytes")
    if reserve is None:
        reserve = int(DISK_RESERVE_SHARE * total.f_blocks * total.f_frsize)
    given = {
        "entries": allowed.get("archive_max_entries"),
        "depth": allowed.get("archive_max_depth"),
        "ratio": allowed.get("archive_max_ratio"),
        "max_bytes": work.parameters.get("limit_bytes"),
    }
    return Limits(disk_reserve_bytes=reserve, **{name: each for name, each in given.items() if each is not None})
