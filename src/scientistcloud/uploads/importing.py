"""Imports, as people begin them: a data set that waits for a job which fetches its files."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlsplit

from scientistcloud.access.sealing import Sealing
from scientistcloud.datasets import catalogue
from scientistcloud.errors import InvalidParameters, Unavailable, UnreadableSource, UnsafeSource
from scientistcloud.records import Credential, Dataset
from scientistcloud.uploads.addresses import Guard
from scientistcloud.uploads.processor import UploadProcessor
from scientistcloud.uploads.remotes import Remote, remote_of

_PORTS = {"http": 80, "https": 443, "sftp": 22, "webdav": 80, "webdavs": 443}


def begin(
    processor: UploadProcessor,
    *,
    user: str,
    url: str,
    fields: Mapping[str, str] | None = None,
    name: str | None = None,
    sensor: str = catalogue.AUTO,
    convert: bool = True,
    private_addresses: bool = False,
) -> Dataset:
    """A data set that will be filled from `url`, and the job that does it, both durable when this returns.

    Raises `InvalidParameters` for an address that is not fetched, naming no secret of it.
    """
    remote = remote_of(url, fields)
    _refuse_early(remote, Guard(private=private_addresses))
    store, folder = processor.store, processor.folder
    reference = None
    if remote.secret:
        now = store.clock.now()
        reference = secrets.token_urlsafe(24)
        store.credentials.add(
            Credential(
                reference=reference,
                user=user,
                sealed=Sealing(folder.sealing_key).seal(remote.secret),
                created_at=now,
                expires_at=now + max(processor.uploads.limits.expiry, timedelta(days=1)),
            )
        )
    dataset = catalogue.open_import(
        store,
        user=user,
        name=name or remote.name,
        sensor=sensor,
        remote=remote.public,
        credential=reference,
        limit_bytes=processor.room_left(user),
        convert=convert,
    )
    processor.create_wanted(dataset)
    return dataset


def _refuse_early(remote: Remote, guard: Guard) -> None:
    """Say at once what the job would say; where the name cannot be looked up now, the job will."""
    address = remote.public.get("endpoint") or remote.public["url"]
    parts = urlsplit(address)
    port = parts.port or _PORTS.get(parts.scheme)
    if parts.hostname is None or port is None:
        return
    try:
        guard.addresses(parts.hostname, port)
    except (UnsafeSource, UnreadableSource) as refused:
        raise InvalidParameters(str(refused)) from refused
    except Unavailable:
        return
