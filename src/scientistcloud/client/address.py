"""Which portal, and the token for it: option, then environment, then the file of a portal on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from scientistcloud.errors import InvalidSettings
from scientistcloud.settings import Settings


class Portal(NamedTuple):
    """Where to send requests, and with which token."""

    server: str
    token: str


def find_portal(settings: Settings, *, server: str | None = None, token_file: Path | None = None) -> Portal:
    """The portal to talk to.

    `server` and `token_file` are what somebody typed; then ``SCIENTISTCLOUD_PUBLIC_URL`` and
    ``SCIENTISTCLOUD_TOKEN``; then ``DATA_DIR/portal.json``, whose token is never sent to another server.
    Raises `InvalidSettings` that says what to type.
    """
    here = _portal_here(settings)
    address = (server or settings.public_url or (here.server if here else "")).rstrip("/")
    if not address:
        raise InvalidSettings(
            f"no portal runs on {settings.data_dir}; start one with `scientistcloud serve`, or name one: "
            "--server URL"
        )
    if not address.startswith(("http://", "https://")):
        raise InvalidSettings(f"{address!r} is no address of a portal; give it as http://HOST:PORT")
    token = _read(token_file) if token_file else settings.token.get_secret_value()
    if not token and here is not None and (not server or here.server == address):
        token = here.token
    if not token:
        raise InvalidSettings(
            f"there is no token for {address}; give a file that holds it: --token-file FILE, or set "
            "SCIENTISTCLOUD_TOKEN"
        )
    return Portal(address, token)


def _read(token_file: Path) -> str:
    try:
        return token_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as failed:
        raise InvalidSettings(f"the token cannot be read from {token_file}: {failed}") from failed


def _portal_here(settings: Settings) -> Portal | None:
    try:
        said = json.loads(settings.folder.portal.read_text())
        return Portal(str(said["address"]).rstrip("/"), str(said["token"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as failed:
        raise InvalidSettings(
            f"{settings.folder.portal} cannot be used ({failed}); name the portal: --server URL --token-file FILE"
        ) from failed
