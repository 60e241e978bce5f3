"""The shape of the database, step by step. A step that was released is never changed; a new one is added."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from scientistcloud.errors import IncompatibleInstallation

APPLICATION_ID = 0x53436C64  # "SCld", at a fixed place in the file, so that it is known for ours

_FIRST = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE roles (
        role TEXT PRIMARY KEY, holder TEXT NOT NULL, seconds REAL NOT NULL, beat REAL NOT NULL,
        boot_id TEXT NOT NULL
    ) WITHOUT ROWID""",
    # -- the queue -------------------------------------------------------------------------------
    """CREATE TABLE lanes (
        dataset_uuid TEXT PRIMARY KEY, seq INTEGER NOT NULL DEFAULT 0, token INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID""",
    """CREATE TABLE types (
        job_type TEXT PRIMARY KEY, paused INTEGER NOT NULL DEFAULT 0, by_name INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID""",
    # The first five are the architecture of record's; a row that has only them is adopted (seq IS NULL until then).
    # Times are POSIX seconds; `beat` is the heartbeat on the monotonic clock of the boot `boot_id`.
    """CREATE TABLE jobs (
        n INTEGER PRIMARY KEY,
        job_id TEXT NOT NULL UNIQUE,
        dataset_uuid TEXT NOT NULL,
        job_type TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'pending',
        parameters TEXT NOT NULL DEFAULT '{}',
        seq INTEGER,
        head TEXT,
        waits_for TEXT,
        priority INTEGER NOT NULL DEFAULT 2,
        rank REAL,
        run_at REAL,
        attempt INTEGER NOT NULL DEFAULT 0,
        max_attempts INTEGER NOT NULL DEFAULT 3,
        token INTEGER NOT NULL DEFAULT 0,
        worker_id TEXT,
        lease_seconds REAL,
        heartbeat_at REAL,
        beat REAL,
        boot_id TEXT,
        cancel_requested INTEGER NOT NULL DEFAULT 0,
        timeout_seconds REAL,
        idempotency_key TEXT,
        progress TEXT,
        result TEXT,
        error TEXT,
        history TEXT,
        created_at REAL,
        updated_at REAL,
        started_at REAL,
        finished_at REAL
    )""",
    # The rule that a data set has one head, held by the database itself.
    "CREATE UNIQUE INDEX jobs_head ON jobs (head) WHERE head IS NOT NULL",
    "CREATE UNIQUE INDEX jobs_key ON jobs (idempotency_key) WHERE idempotency_key IS NOT NULL",
    "CREATE UNIQUE INDEX jobs_place ON jobs (dataset_uuid, seq)",
    "CREATE INDEX jobs_ready ON jobs (waits_for, job_type, rank, priority) WHERE waits_for IS NOT NULL",
    "CREATE INDEX jobs_turn ON jobs (dataset_uuid, seq) WHERE waits_for = 'turn'",
    "CREATE INDEX jobs_pause ON jobs (run_at) WHERE waits_for = 'time' AND head IS NOT NULL",
    "CREATE INDEX jobs_delay ON jobs (run_at) WHERE waits_for = 'time' AND head IS NULL",
    "CREATE INDEX jobs_delay_of ON jobs (dataset_uuid) WHERE waits_for = 'time' AND head IS NULL",
    "CREATE INDEX jobs_running ON jobs (boot_id, beat + lease_seconds) WHERE status = 'running'",
    "CREATE INDEX jobs_updated ON jobs (updated_at)",
    "CREATE INDEX jobs_ended ON jobs (dataset_uuid, finished_at, seq, status) WHERE finished_at IS NOT NULL",
    "CREATE INDEX jobs_foreign ON jobs (n) WHERE seq IS NULL",
    # -- data sets -------------------------------------------------------------------------------
    """CREATE TABLE visstoredatas (
        n INTEGER PRIMARY KEY,
        uuid TEXT NOT NULL UNIQUE,
        user TEXT NOT NULL,
        name TEXT NOT NULL,
        sensor TEXT NOT NULL,
        status TEXT NOT NULL,
        error TEXT,
        size_bytes INTEGER NOT NULL DEFAULT 0,
        forms TEXT NOT NULL DEFAULT '[]',
        tags TEXT NOT NULL DEFAULT '[]',
        description TEXT NOT NULL DEFAULT '',
        public INTEGER NOT NULL DEFAULT 0,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        closed_at REAL,
        deleted_at REAL,
        revision INTEGER NOT NULL DEFAULT 0,
        wanted TEXT,
        token INTEGER NOT NULL DEFAULT 0,
        version INTEGER NOT NULL DEFAULT 0
    )""",
    "CREATE INDEX visstoredatas_list ON visstoredatas (user, created_at) WHERE deleted_at IS NULL",
    "CREATE INDEX visstoredatas_sums ON visstoredatas (user, status, size_bytes) WHERE deleted_at IS NULL",
    "CREATE INDEX visstoredatas_promised ON visstoredatas (updated_at) WHERE wanted IS NOT NULL",
    """CREATE TABLE files (
        dataset_uuid TEXT NOT NULL, path TEXT NOT NULL, size_bytes INTEGER NOT NULL, sha256 TEXT,
        PRIMARY KEY (dataset_uuid, path)
    ) WITHOUT ROWID""",
    # -- who works, who has logged in ------------------------------------------------------------
    """CREATE TABLE workers (
        worker_id TEXT PRIMARY KEY, host TEXT NOT NULL, slots INTEGER NOT NULL, job_types TEXT NOT NULL,
        sensors TEXT NOT NULL, version TEXT NOT NULL, started_at REAL NOT NULL, last_seen REAL NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE sessions (
        id_sha256 TEXT PRIMARY KEY, email TEXT NOT NULL, csrf_token TEXT NOT NULL,
        created_at REAL NOT NULL, expires_at REAL NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX sessions_expiry ON sessions (expires_at)",
)

# Sources that lie elsewhere: registered where they are, or fetched with a credential.
_SOURCES_ELSEWHERE = (
    "ALTER TABLE visstoredatas ADD COLUMN place TEXT",
    "ALTER TABLE visstoredatas ADD COLUMN notice TEXT",
    "CREATE INDEX visstoredatas_place ON visstoredatas (place) WHERE place IS NOT NULL AND deleted_at IS NULL",
    "ALTER TABLE files ADD COLUMN modified_ns INTEGER",
    """CREATE TABLE credentials (
        reference TEXT PRIMARY KEY, user TEXT NOT NULL, sealed TEXT NOT NULL, created_at REAL NOT NULL,
        expires_at REAL NOT NULL
    ) WITHOUT ROWID""",
)

_OPERATIONS = (
    "CREATE INDEX jobs_failed ON jobs (n) WHERE status = 'failed'",
    "CREATE INDEX jobs_finished ON jobs (finished_at, n) WHERE finished_at IS NOT NULL",
    """CREATE TABLE counters (
        name TEXT NOT NULL, labels TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (name, labels)
    ) WITHOUT ROWID""",
    # The older system's name for `user`: records of it can be loaded as they are, then `migrate-legacy` takes them.
    "ALTER TABLE visstoredatas ADD COLUMN user_id TEXT",
)

_DELETED = ("CREATE INDEX visstoredatas_deleted ON visstoredatas (deleted_at) WHERE deleted_at IS NOT NULL",)

# Whoever writes the older name alone owns the data set as well; lists go on asking one index for one name.
_OWNED_BY_USER_ID = "UPDATE visstoredatas SET user = user_id WHERE user = '' AND user_id IS NOT NULL"
_OWNERS = (
    _OWNED_BY_USER_ID,
    f"""CREATE TRIGGER visstoredatas_owner_inserted AFTER INSERT ON visstoredatas
        WHEN NEW.user = '' AND NEW.user_id IS NOT NULL
        BEGIN {_OWNED_BY_USER_ID} AND n = NEW.n; END""",
    f"""CREATE TRIGGER visstoredatas_owner_written AFTER UPDATE OF user, user_id ON visstoredatas
        WHEN NEW.user = '' AND NEW.user_id IS NOT NULL
        BEGIN {_OWNED_BY_USER_ID} AND n = NEW.n; END""",
)

# What everybody may see; a private record costs these nothing.
_PUBLIC = tuple(
    f"CREATE INDEX {name} ON visstoredatas ({columns})"
    " WHERE public AND deleted_at IS NULL AND (size_bytes > 0 OR forms <> '[]')"
    for name, columns in (
        ("visstoredatas_public", "created_at"),
        ("visstoredatas_public_sensors", "sensor, created_at"),
    )
)

_KEYWORDS = ("ALTER TABLE visstoredatas ADD COLUMN keywords TEXT NOT NULL DEFAULT ''",)

MIGRATIONS: tuple[Sequence[str], ...] = (
    _FIRST, _SOURCES_ELSEWHERE, _OPERATIONS, _DELETED, _OWNERS, _PUBLIC, _KEYWORDS,
)  # fmt: skip
"""Number n takes the database from ``user_version`` n to n + 1."""


def identify(connection: sqlite3.Connection, path: Path, *, known: int = len(MIGRATIONS)) -> int:
    """The file's version, 0 where it is empty. Raises `IncompatibleInstallation`; changes nothing."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (tables or application or version):
        raise IncompatibleInstallation(
            f"{path} is a database of another program; name another file in DATABASE_URL"
        )
    if version > known:
        raise IncompatibleInstallation(
            f"the database {path} is of a newer ScientistCloud (version {version} of its shape, this one knows "
            f"{known}); install the newer one"
        )
    return int(version)


def migrate(
    connection: sqlite3.Connection, path: Path, *, migrations: Sequence[Sequence[str]] = MIGRATIONS
) -> None:
    """Bring the database to the newest version; the caller holds the writers' lock.

    An older one is first copied to ``NAME.version-N`` beside it. Each step is one transaction: a step that fails
    leaves the version before it.
    """
    version = identify(connection, path, known=len(migrations))
    if 0 < version < len(migrations):
        _copy_aside(connection, path.with_name(f"{path.name}.version-{version}"))
    for number in range(version, len(migrations)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in migrations[number]:
                connection.execute(statement)
            if number == 0:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute("INSERT INTO meta VALUES ('installation_id', ?)", (str(uuid.uuid4()),))
            connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def objects(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """The tables and indexes of the database, by kind and name."""
    rows = connection.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
    return {(str(kind), str(name)) for kind, name in rows}


def expected() -> set[tuple[str, str]]:
    """Those that it has to have, found out by making one in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statements in MIGRATIONS:
            for statement in statements:
                connection.execute(statement)
        return objects(connection)


def _copy_aside(connection: sqlite3.Connection, copy: Path) -> None:
    partial = copy.with_name(copy.name + ".partial")
    partial.unlink(missing_ok=True)
    with closing(sqlite3.connect(partial)) as target:
        connection.backup(target)
    partial.rename(copy)
