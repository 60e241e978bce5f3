"""Everything that can be set, read once; nothing else reads the environment.

Each field is the environment variable ``SCIENTISTCLOUD_`` + its name in capitals, or a line in the file
``.env`` of the data folder. The environment wins.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from scientistcloud.errors import InvalidSettings
from scientistcloud.layout import DataFolder

PREFIX = "SCIENTISTCLOUD_"
DISK_RESERVE_SHARE = 0.05
"""Of the disk, kept free where `Settings.disk_reserve_bytes` says nothing."""
KIB, MIB, GIB, TIB = (2**n for n in (10, 20, 30, 40))
_OTEL = ("SDK_DISABLED", "TRACES_EXPORTER", "EXPORTER_OTLP_ENDPOINT", "EXPORTER_OTLP_TRACES_ENDPOINT")
_FOR_TASKS = (
    "archive_max_entries",
    "archive_max_depth",
    "archive_max_ratio",
    "disk_reserve_bytes",
    "import_private_addresses",
    "max_upload_bytes",
)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Settings(BaseSettings):
    """The settings of one process. Sizes are in bytes, times in the unit of their name."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    data_dir: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("scientistcloud")))
    #: Empty: the embedded database in the data folder.
    database_url: str = ""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    #: How browsers reach the portal where that is not ``http://HOST:PORT``.
    public_url: str = ""
    #: The local log-in. Empty: a random one, kept in the data folder.
    token: SecretStr = SecretStr("")
    user_email: str = "local@localhost"
    lease_seconds: Annotated[float, Field(gt=0)] = 30
    #: A running job that reports no progress for so long is ended: a damaged file can hold a library in a loop.
    stall_seconds: Annotated[float, Field(gt=0)] = 1800
    slot_memory_bytes: Annotated[int, Field(ge=64 * MIB)] = 2 * GIB
    #: The largest file that a running job may write; None: as large as an upload may be.
    slot_file_bytes: Annotated[int | None, Field(ge=1 * MIB)] = None
    #: How many jobs of a type one service runs at once, as ``TYPE=N,TYPE=N``; other types: as many as it has slots.
    job_type_limits: Annotated[Mapping[str, int], NoDecode] = Field(default_factory=dict)
    max_upload_bytes: Annotated[int, Field(gt=0)] = 10 * TIB
    #: Per owner; None: no quota.
    quota_bytes: int | None = None
    #: Kept free of the disk; None: 5 % of it.
    disk_reserve_bytes: int | None = None
    #: Of one person, that still wait for bytes.
    max_open_uploads: Annotated[int, Field(gt=0)] = 10_000
    upload_expiry_days: Annotated[float, Field(gt=0)] = 7
    #: A deleted data set can be had back for so long; then a job removes it.
    keep_deleted_days: Annotated[float, Field(ge=0)] = 7
    #: Of what comes out of one archive.
    archive_max_entries: Annotated[int, Field(gt=0)] = 1_000_000
    archive_max_depth: Annotated[int, Field(gt=0)] = 64
    #: Bytes for each stored byte.
    archive_max_ratio: Annotated[float, Field(gt=1)] = 200
    #: Whether imports may reach this machine and private networks.
    import_private_addresses: bool = False
    #: Folders below which data may be registered where they lie, separated by ":".
    register_roots: str = ""
    #: Files that are registered may not have changed for so long.
    register_quiet_seconds: Annotated[float, Field(ge=0)] = 10
    keep_jobs_days: Annotated[float, Field(gt=0)] = 90
    #: Finished jobs beyond so many go too, the oldest first; None: no limit.
    keep_jobs: Annotated[int | None, Field(ge=0)] = None
    #: Unfinished jobs of one data set; None: no cap.
    max_pending_per_dataset: int | None = None
    #: Of a job's parameters, as JSON.
    max_parameters_bytes: Annotated[int, Field(ge=1 * KIB, le=8 * MIB)] = 1 * MIB
    #: Of each job's log: beyond it the middle goes, head and tail stay.
    log_bytes: Annotated[int, Field(ge=64 * KIB)] = 10 * MIB
    #: Of what portal and workers say on standard error.
    log_format: Literal["text", "json"] = "text"

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("job_type_limits", mode="before")
    @classmethod
    def _numbers_by_type(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        limits = {}
        for part in filter(None, (each.strip() for each in value.split(","))):
            job_type, _, number = part.partition("=")
            if not job_type.strip() or not number.strip().isdecimal() or int(number) < 1:
                msg = "give TYPE=N,TYPE=N with numbers of at least 1, as in dataset_import=2"
                raise ValueError(msg)
            limits[job_type.strip()] = int(number)
        return limits

    @property
    def folder(self) -> DataFolder:
        return DataFolder(self.data_dir)

    @property
    def store_url(self) -> str:
        return self.database_url or f"sqlite:///{self.folder.database}"

    @property
    def register_folders(self) -> tuple[Path, ...]:
        return tuple(Path(each).expanduser().absolute() for each in self.register_roots.split(os.pathsep) if each)

    @property
    def for_tasks(self) -> dict[str, Any]:
        """What jobs may see of the settings: the limits that the operator sets for what they take in."""
        return self.model_dump(include=set(_FOR_TASKS))

    @property
    def loopback(self) -> bool:
        """Whether the portal listens to this machine alone."""
        return self.host in _LOOPBACK


def tracing_exporter() -> str | None:
    """Where OpenTelemetry's own variables send spans: ``otlp``, ``console``, or None for nowhere."""
    given = {name: os.environ.get(f"OTEL_{name}", "").strip() for name in _OTEL}
    if given["SDK_DISABLED"].lower() == "true":
        return None
    exporter = given["TRACES_EXPORTER"].lower()
    if exporter in ("otlp", "console"):
        return exporter
    return (
        "otlp"
        if not exporter and (given["EXPORTER_OTLP_ENDPOINT"] or given["EXPORTER_OTLP_TRACES_ENDPOINT"])
        else None
    )


def read_settings(**overrides: object) -> Settings:
    """The settings from `overrides` (those that are not None), the environment and the data folder's ``.env``.

    Raises `InvalidSettings` with one line that names the variable and what it may be.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        data_dir = Settings.model_validate({"data_dir": given["data_dir"]} if "data_dir" in given else {}).data_dir
        # pydantic-settings takes the file by this keyword; Settings itself has no such field.
        return Settings(_env_file=data_dir / ".env", **given)  # type: ignore[arg-type]
    except ValidationError as wrong:
        first = wrong.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        msg = f"{name} is {first['input']!r}: {first['msg']}; see docs/reference/settings.md"
        if name == PREFIX + "TOKEN":
            msg = f"{name} cannot be used: {first['msg']}"
        raise InvalidSettings(msg) from None
