"""``scientistcloud doctor``: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import click

from scientistcloud import plugins
from scientistcloud.cli.database import open_existing
from scientistcloud.errors import ScientistCloudError
from scientistcloud.jobs.handling import living, unhandled
from scientistcloud.ports import Store
from scientistcloud.records import Worker
from scientistcloud.service import presence
from scientistcloud.settings import DISK_RESERVE_SHARE, Settings, read_settings
from scientistcloud.uploads.folder import Limits, UploadsFolder

OK, NOTE, WRONG = "ok", "note", "wrong"
_CLOCKS_APART_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look at one part of the installation found."""

    part: str
    #: `ok`, `note` (nothing is broken) or `wrong`.
    state: str
    #: What is so and, where it is wrong, what to do.
    message: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> int:
    """What is wrong with this installation: data folder, database, workers. Changes nothing.

    The exit status is 1 where something is wrong.
    """
    findings = list(examine(read_settings()))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            click.echo(f"{finding.state:5}  {finding.part:12}  {finding.message}")
    return 1 if any(finding.state == WRONG for finding in findings) else 0


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at each part; what cannot be looked at because another part is broken is left out."""
    yield from _data_folder(settings)
    yield from _plugins()
    try:
        store = open_existing(settings)
    except ScientistCloudError as failed:
        yield Finding("database", WRONG, str(failed))
        return
    try:
        for look in (_database, _installation, _clocks, _uploads, _workers):
            yield from _looked(look, store, settings)
    finally:
        store.close()


def _looked(
    look: Callable[[Store, Settings], Iterator[Finding]], store: Store, settings: Settings
) -> Iterator[Finding]:
    try:
        yield from look(store, settings)
    except ScientistCloudError as failed:
        yield Finding(look.__name__.strip("_"), WRONG, str(failed))


# -- without the database ------------------------------------------------------------------------


def _data_folder(settings: Settings) -> Iterator[Finding]:
    root = settings.folder.root
    try:
        with tempfile.TemporaryFile(dir=root):
            pass
        disk = shutil.disk_usage(root)
    except OSError as failed:
        yield Finding(
            "data folder", WRONG, f"{root} cannot be used ({failed.strerror}); mend its rights or set DATA_DIR"
        )
        return
    kind = presence.file_system_of(root)
    yield Finding("data folder", OK, f"{root}" + (f" on {kind}" if kind else ""))
    reserve = settings.disk_reserve_bytes
    kept = int(DISK_RESERVE_SHARE * disk.total) if reserve is None else reserve
    said = f"{disk.free / 1e9:.1f} GB free of {disk.total / 1e9:.1f}, {kept / 1e9:.1f} are kept free"
    if disk.free > kept:
        yield Finding("disk", OK, said)
    else:
        yield Finding("disk", WRONG, f"{said}: uploads and conversions are refused; free some space")


def _plugins() -> Iterator[Finding]:
    for group, what in ((plugins.CONVERTERS, "converters"), (plugins.TASKS, "tasks")):
        try:
            names = sorted(plugins.load_all(group))
        except ScientistCloudError as broken:
            yield Finding(what, WRONG, str(broken))
        else:
            yield Finding(what, OK if names else WRONG, ", ".join(names) or "none is installed; install it again")


# -- with it -------------------------------------------------------------------------------------


def _database(store: Store, settings: Settings) -> Iterator[Finding]:
    presence.check_database_is_here(store, lease_seconds=settings.lease_seconds)
    state = store.meta.state()
    yield Finding("database", NOTE if state.problems else OK, state.summary)
    for problem in state.problems:
        yield Finding("database", WRONG, problem)


def _installation(store: Store, settings: Settings) -> Iterator[Finding]:
    database = store.meta.installation_id()
    path = settings.folder.installation_id
    try:
        folder = path.read_text().strip()
    except FileNotFoundError:
        yield Finding("installation", NOTE, f"{database}; the data folder takes this id with its first worker")
        return
    except OSError as failed:
        yield Finding("installation", WRONG, f"{path} cannot be read ({failed.strerror}); mend its rights")
        return
    if folder == database:
        yield Finding("installation", OK, database)
    else:
        yield Finding(
            "installation",
            WRONG,
            f"the data folder belongs to installation {folder[:40]}, the database to {database}; set DATA_DIR or "
            "DATABASE_URL so that they fit",
        )


def _clocks(store: Store, _settings: Settings) -> Iterator[Finding]:
    apart = (datetime.now(UTC) - store.clock.now()).total_seconds()
    if abs(apart) > _CLOCKS_APART_SECONDS:
        yield Finding(
            "clocks",
            NOTE,
            f"this machine's clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} the database "
            "server's, which counts; let both follow one time server",
        )


def _uploads(store: Store, settings: Settings) -> Iterator[Finding]:
    """The limits of what comes in, each with the setting that changes it, and what waits under them."""
    quota = settings.quota_bytes
    reserve = settings.disk_reserve_bytes
    yield Finding(
        "limits",
        OK,
        "; ".join((
            f"an upload {_size(settings.max_upload_bytes)} (MAX_UPLOAD_BYTES)",
            f"a person {'no quota' if quota is None else _size(quota)} (QUOTA_BYTES)",
            f"{settings.max_open_uploads} open uploads a person (MAX_OPEN_UPLOADS)",
            f"kept free {f'{DISK_RESERVE_SHARE:.0%}' if reserve is None else _size(reserve)} (DISK_RESERVE_BYTES)",
            f"uploads expire after {settings.upload_expiry_days:g} days (UPLOAD_EXPIRY_DAYS)",
        )),
    )  # fmt: skip
    intake = UploadsFolder(settings.folder, clock=store.clock, limits=Limits.of(settings)).overview()
    waiting = f"{intake.open_uploads} open, {_size(intake.missing_bytes)} to come"
    room = max(0, intake.free_bytes - intake.reserve_bytes)
    if intake.expired_uploads:
        yield Finding(
            "uploads",
            NOTE,
            f"{waiting}; {intake.expired_uploads} have expired; the portal removes them, start it",
        )
    elif intake.missing_bytes > room:
        yield Finding("uploads", NOTE, f"{waiting}, and {_size(room)} are left for them; free some space")
    else:
        yield Finding("uploads", OK, waiting)


def _size(count: int) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count} bytes"


def _workers(store: Store, _settings: Settings) -> Iterator[Finding]:
    workers = store.workers.all()
    alive = living(workers, now=store.clock.now())
    for worker in workers:
        yield _worker(worker, lives=worker in alive)
    if not alive:
        yield Finding(
            "workers", NOTE, "none runs; start one with `scientistcloud serve` or `scientistcloud worker`"
        )
    stats = store.jobs.stats()
    for job_type, why in unhandled(stats, alive).items():
        yield Finding("jobs", WRONG, f"{stats.types[job_type].pending} pending of type {job_type}: {why}")
    for job_type, figures in stats.types.items():
        if figures.paused:
            yield Finding("jobs", NOTE, f"{job_type} is paused; `scientistcloud jobs resume {job_type}` ends that")


def _worker(worker: Worker, *, lives: bool) -> Finding:
    said = f"{worker.worker_id} on {worker.host}, slots: {worker.slots}, {worker.version}"
    if lives:
        return Finding("workers", OK, said)
    return Finding(
        "workers",
        NOTE,
        f"{said}: not seen since {worker.last_seen:%F %T} UTC; killed, or cut off. Its jobs are taken back",
    )
