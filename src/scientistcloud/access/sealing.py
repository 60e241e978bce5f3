"""Credentials of remote sources, sealed with a key that lies in the data folder and nowhere else.

The database holds what was sealed, jobs hold its reference, and neither says anything without the key.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from scientistcloud.errors import InvalidSettings, NotFound


class Sealing:
    """Seals and opens with the key in the file `path`, which is made (mode 0600) where there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def seal(self, secret: Mapping[str, str]) -> str:
        """`secret` as a text that only this data folder can open. Raises `InvalidSettings`."""
        from cryptography.fernet import Fernet

        return Fernet(self._key()).encrypt(json.dumps(dict(secret)).encode()).decode()

    def open(self, sealed: str) -> dict[str, str]:
        """What was sealed. Raises `NotFound` where it was sealed with another key, `InvalidSettings`."""
        from cryptography.fernet import Fernet, InvalidToken

        try:
            opened: dict[str, str] = json.loads(Fernet(self._key()).decrypt(sealed.encode()))
        except InvalidToken:
            raise NotFound(
                f"the credential was not sealed with the key {self._path}; begin the import again"
            ) from None
        return opened

    def _key(self) -> bytes:
        from cryptography.fernet import Fernet

        with suppress(FileNotFoundError):
            return self._read()
        # Whole or not at all, and never over another's: two processes may begin at once.
        new = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(Fernet.generate_key())
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(new, self._path)
            new.unlink()
        except OSError as failed:
            raise InvalidSettings(
                f"the key {self._path} cannot be kept ({failed.strerror}); make the data folder writable"
            ) from failed
        return self._read()

    def _read(self) -> bytes:
        if self._path.stat().st_mode & 0o077:
            raise InvalidSettings(f"others may read the key {self._path}; chmod 600 it")
        return self._path.read_bytes()
