"""Addresses of remote sources, as people type them: what a job may know of one, and what has to be sealed.

A job's parameters are read by many, so whatever opens the source is taken out of its address: names and passwords,
keys, and the whole query, where signed addresses carry theirs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, unquote, urlsplit

from scientistcloud.errors import InvalidParameters

KINDS = {
    "https": "web",
    "http": "web",
    "s3": "s3",
    "sftp": "sftp",
    "webdav": "webdav",
    "webdavs": "webdav",
    "gdrive": "gdrive",
}
EXAMPLES = "https://…, s3://BUCKET/KEY, sftp://HOST/PATH, webdavs://HOST/PATH or gdrive:PATH"
#: What people may say beside the address, by kind; all of it is sealed but what `_PLAIN` names.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "web": ("login", "password", "bearer"),
    "s3": ("access_key", "secret_key", "session_token", "endpoint", "region"),
    "sftp": ("login", "password", "private_key", "passphrase", "host_key"),
    "webdav": ("login", "password", "bearer"),
    "gdrive": ("service_account", "token", "folder_id", "shared_drive"),
}
_PLAIN = ("endpoint", "region")
_FIELD_LENGTH = 20_000
_URL_LENGTH = 4000
_SAFE = "/:@!$&'()*+,;=~-._%"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A source that somebody asked for."""

    #: For the job: `kind`, `url` and what else is no secret.
    public: Mapping[str, str]
    #: To be sealed; empty where the source is open to all.
    secret: Mapping[str, str] = field(repr=False)
    #: What the data set is called where nobody says.
    name: str


def remote_of(url: str, fields: Mapping[str, str] | None = None) -> Remote:
    """The source at `url`, opened by `fields`. Raises `InvalidParameters`, naming no secret."""
    given = {name: value for name, value in (fields or {}).items() if value}
    if len(url) > _URL_LENGTH or any(ord(c) < 33 or ord(c) == 127 for c in url.strip()):
        raise InvalidParameters("the address holds blanks or control characters, or is too long; check it")
    url = url.strip()
    scheme, separator, rest = url.partition(":")
    kind = KINDS.get(scheme.lower())
    if not separator or kind is None:
        shown = (
            f"an address that begins with {scheme.lower()[:20]}:" if separator else "an address without a scheme"
        )
        raise InvalidParameters(f"{shown} is not fetched; give {EXAMPLES}")
    _check_fields(kind, given)
    if kind == "gdrive":
        return _drive(rest, given)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidParameters("the address cannot be read; check host and port") from None
    if not host or parts.fragment:
        raise InvalidParameters(f"the address has no host, or a '#'; give {EXAMPLES}")
    return _s3(parts, given) if kind == "s3" else _with_host(kind, parts, host, port, given)


def _check_fields(kind: str, given: Mapping[str, str]) -> None:
    for name, value in given.items():
        if name not in FIELDS[kind]:
            raise InvalidParameters(
                f"{name[:60]!r} does not belong to such an address; it takes {', '.join(FIELDS[kind])}"
            )
        if len(value) > _FIELD_LENGTH or "\0" in value:
            raise InvalidParameters(f"the {name} is too long or holds a NUL character; check it")
    if kind == "sftp" and "host_key" not in given:
        raise InvalidParameters(
            "SFTP needs the host_key, so that your password goes to nobody else: the line that "
            "`ssh-keyscan -t ed25519 HOST` prints, without the host"
        )
    if "host_key" in given and not re.fullmatch(r"[a-z0-9@.-]+ [A-Za-z0-9+/=]+", given["host_key"].strip()):
        raise InvalidParameters("the host_key is no line such as 'ssh-ed25519 AAAA…'; `ssh-keyscan HOST` prints it")


def _with_host(kind: str, parts: SplitResult, host: str, port: int | None, given: dict[str, str]) -> Remote:
    secret = dict(given)
    if parts.username:
        secret.setdefault("login", unquote(parts.username))
    if parts.password:
        secret.setdefault("password", unquote(parts.password))
    if parts.query:
        if kind != "web":
            raise InvalidParameters("such an address has no '?'; write it as %3F in a name")
        secret["query"] = quote(parts.query, safe=_SAFE + "?[]")
    if any(ord(c) < 32 for c in secret.get("bearer", "") + secret.get("login", "")):
        raise InvalidParameters("login or token hold control characters; check them")
    shown = f"[{host}]" if ":" in host else host
    path = quote(parts.path, safe=_SAFE)
    address = f"{parts.scheme.lower()}://{shown}{f':{port}' if port is not None else ''}{path}"
    return Remote(public={"kind": kind, "url": address}, secret=secret, name=_name(path) or host)


def _s3(parts: SplitResult, given: dict[str, str]) -> Remote:
    bucket = parts.netloc
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,62}", bucket):
        raise InvalidParameters(f"{bucket[:70]!r} is no name of a bucket; give s3://BUCKET/KEY")
    if parts.query:
        raise InvalidParameters("an s3:// address has no '?'; write it as %3F in a key")
    endpoint = given.get("endpoint", "")
    if endpoint:
        where = urlsplit(endpoint)
        if where.scheme not in ("http", "https") or not where.hostname or where.username or where.query:
            raise InvalidParameters("the endpoint is no plain address such as https://s3.example.org; check it")
    if not re.fullmatch(r"[a-z0-9-]{0,40}", given.get("region", "")):
        raise InvalidParameters("the region is no name such as eu-central-1; check it")
    if bool(given.get("access_key")) != bool(given.get("secret_key")):
        raise InvalidParameters("access_key and secret_key belong together; give both or none")
    key = parts.path.lstrip("/")
    public = {"kind": "s3", "url": f"s3://{bucket}/{key}"}
    public |= {name: given[name] for name in _PLAIN if given.get(name)}
    secret = {name: value for name, value in given.items() if name not in _PLAIN}
    return Remote(public=public, secret=secret, name=_name(key) or bucket)


def _drive(path: str, given: dict[str, str]) -> Remote:
    for name in ("service_account", "token"):
        if name in given:
            try:
                json.loads(given[name])
            except ValueError:
                raise InvalidParameters(f"the {name} is no JSON; paste the whole of it") from None
    path = path.strip("/")
    return Remote(
        public={"kind": "gdrive", "url": f"gdrive:{path}"}, secret=given, name=_name(path) or "Google Drive"
    )


def _name(path: str) -> str:
    """The last part of `path`, as people write it."""
    name = unquote(path.rstrip("/").rpartition("/")[2])
    return "".join(c for c in name if ord(c) > 31 and ord(c) != 127).strip()[:200]


# -- as rclone is told ---------------------------------------------------------------------------


def rclone_options(url: str, secret: Mapping[str, str], *, known_hosts: str, proxy: str) -> dict[str, str]:
    """The remote at `url` in rclone's words, its root being that of the server: these options and no others.

    `known_hosts` is where the line of `known_hosts_line` lies. Passwords are as they are: see `OBSCURED`.
    """
    parts = urlsplit(url)
    given = dict(secret)
    match parts.scheme:
        case "sftp":
            key_type = given["host_key"].split()[0]
            options = {
                "type": "sftp",
                "host": parts.hostname or "",
                "port": str(parts.port or 22),
                "user": given.get("login", ""),
                "pass": given.get("password", ""),
                "key_pem": given.get("private_key", "").strip().replace("\n", "\\n"),
                "key_file_pass": given.get("passphrase", ""),
                "known_hosts_file": known_hosts,
                "host_key_algorithms": "rsa-sha2-512 rsa-sha2-256" if key_type == "ssh-rsa" else key_type,
                "shell_type": "none",  # no command is run there
                "disable_hashcheck": "true",
                "skip_links": "true",
                "http_proxy": proxy,
            }
        case "webdav" | "webdavs":
            scheme = "https" if parts.scheme == "webdavs" else "http"
            options = {
                "type": "webdav",
                "url": f"{scheme}://{parts.netloc}/",
                "vendor": "other",
                "user": given.get("login", ""),
                "pass": given.get("password", ""),
                "bearer_token": given.get("bearer", ""),
            }
        case "gdrive":
            options = {
                "type": "drive",
                "scope": "drive.readonly",
                "token": given.get("token", ""),
                "service_account_credentials": given.get("service_account", ""),
                "root_folder_id": given.get("folder_id", ""),
                "team_drive": given.get("shared_drive", ""),
            }
        case _:
            raise InvalidParameters(f"{parts.scheme}: is not fetched by rclone")
    return {name: value for name, value in options.items() if value}


OBSCURED = ("pass", "key_file_pass")
"""The options that rclone wants obscured."""


def known_hosts_line(url: str, secret: Mapping[str, str]) -> str:
    """The line that names the server's key, as OpenSSH has it."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    name = host if parts.port in (None, 22) else f"[{host}]:{parts.port}"
    return f"{name} {secret['host_key'].strip()}\n"


def path_of(url: str) -> str:
    """Where the files lie on the server of an address that rclone fetches."""
    if url.startswith("gdrive:"):
        return url.removeprefix("gdrive:")
    return unquote(urlsplit(url).path).strip("/")
