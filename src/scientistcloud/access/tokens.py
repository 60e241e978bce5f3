"""The local log-in: one token for the machine's own person, and the sessions of browsers that showed it.

The token is `Settings.token` or a random one in ``DATA_DIR/token``. A browser trades it once for a cookie; what
is stored of the cookie is its SHA-256, so a copy of the database logs nobody in.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
from datetime import timedelta
from pathlib import Path

from scientistcloud.errors import InvalidSettings
from scientistcloud.ports import Store
from scientistcloud.records import Person, Session
from scientistcloud.settings import Settings

SESSION_LIFE = timedelta(days=30)


def local_token(settings: Settings) -> str:
    """The token that opens this portal; drawn and kept (0600) when first asked for."""
    given = settings.token.get_secret_value()
    return given or _kept(settings.folder.token)


def same(left: str, right: str) -> bool:
    """Whether two secrets are equal, in a time that tells nothing about where they differ."""
    return hmac.compare_digest(left.encode(errors="surrogatepass"), right.encode(errors="surrogatepass"))


def local_person(settings: Settings) -> Person:
    """Who the holder of the token is."""
    return Person(email=settings.user_email, operator=True)


def open_session(store: Store, person: Person) -> tuple[str, Session]:
    """The value for a new cookie, and the session that the store now knows it by."""
    cookie = secrets.token_urlsafe(32)
    now = store.clock.now()
    session = Session(
        id_sha256=_digest(cookie),
        email=person.email,
        csrf_token=secrets.token_urlsafe(24),
        created_at=now,
        expires_at=now + SESSION_LIFE,
    )
    store.sessions.add(session)
    return cookie, session


def find_session(store: Store, cookie: str) -> Session | None:
    """The session that `cookie` opened; None where there is none, or it has expired."""
    return store.sessions.get(_digest(cookie))


def close_session(store: Store, cookie: str) -> None:
    """Log out."""
    store.sessions.remove(_digest(cookie))


def _digest(cookie: str) -> str:
    # 256 random bits need no slow hash: there is nothing to guess.
    return hashlib.sha256(cookie.encode(errors="surrogatepass")).hexdigest()


def _kept(path: Path) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _draw(path)
        if token := path.read_text().strip():
            return token
    except OSError as failed:
        raise InvalidSettings(
            f"the log-in token cannot be kept in {path}: {failed.strerror}; make DATA_DIR writable"
        ) from failed
    raise InvalidSettings(f"{path} is empty; remove it and start again")


def _draw(path: Path) -> None:
    # Linked into place whole: of two that start together one draws the token, and both use it.
    handle, name = tempfile.mkstemp(prefix=".token-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(24))
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()
