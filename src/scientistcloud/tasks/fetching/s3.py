"""S3: requests signed as AWS Signature Version 4 says, and lists of what lies below a prefix.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import SplitResult, quote, unquote_plus
from xml.etree import ElementTree as ET

from scientistcloud.errors import UnreadableSource
from scientistcloud.tasks.fetching.web import Answer, Broken, Sign, get, nobody, refused
from scientistcloud.uploads.addresses import Guard

_NOTHING = hashlib.sha256(b"").hexdigest()
_LIST_BYTES = 16 << 20
_KEYS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Who asks."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One object of a list."""

    key: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket, and how it is reached. `endpoint` "": AWS itself."""

    name: str
    endpoint: str
    region: str
    keys: Keys | None
    guard: Guard

    def object(self, key: str) -> Callable[[Mapping[str, str]], AbstractContextManager[Answer]]:
        """The object at `key`, as `fetching.files` opens it."""
        return lambda headers: self._get(
            self._address(quote(key, safe="/-._~")), f"s3://{self.name}/{key}", headers
        )

    def entries(self, prefix: str) -> Iterator[Entry]:
        """What lies below `prefix`. Raises `UnreadableSource`, `Broken`."""
        token: str | None = None
        shown = f"s3://{self.name}/{prefix}"
        while True:
            asked = {"list-type": "2", "max-keys": str(_KEYS), "prefix": prefix, "encoding-type": "url"}
            if token is not None:
                asked["continuation-token"] = token
            # Sorted, as the signature wants it.
            query = "&".join(f"{name}={quote(value, safe='-._~')}" for name, value in sorted(asked.items()))
            with self._get(f"{self._address('')}?{query}", shown, {}) as answer:
                if answer.status != HTTPStatus.OK:
                    raise refused(answer, shown)
                body = b"".join(_bounded(answer))
            found, token = _parsed(body, shown)
            yield from found
            if token is None:
                return

    def _address(self, path: str) -> str:
        if self.endpoint:
            return f"{self.endpoint.rstrip('/')}/{self.name}/{path}"
        if "." in self.name:  # no certificate covers such a host
            return f"https://s3.{self.region}.amazonaws.com/{self.name}/{path}"
        return f"https://{self.name}.s3.{self.region}.amazonaws.com/{path}"

    def _get(self, url: str, shown: str, headers: Mapping[str, str]) -> AbstractContextManager[Answer]:
        sign: Sign = nobody
        if (keys := self.keys) is not None:

            def signing(parts: SplitResult, sent: Mapping[str, str]) -> Mapping[str, str]:
                return signed(parts, sent, keys=keys, region=self.region, now=datetime.now(UTC))

            sign = signing
        return get(url, shown=shown, guard=self.guard, headers=headers, sign=sign)


def signed(
    url: SplitResult, headers: Mapping[str, str], *, keys: Keys, region: str, now: datetime, service: str = "s3"
) -> dict[str, str]:
    """The headers that sign a GET of `url`, whose path and query are encoded and sorted already."""
    moment = now.strftime("%Y%m%dT%H%M%SZ")
    day = moment[:8]
    added = {"host": url.netloc, "x-amz-date": moment, "x-amz-content-sha256": _NOTHING}
    if keys.session_token:
        added["x-amz-security-token"] = keys.session_token
    if "Range" in headers:
        added["range"] = headers["Range"]
    names = ";".join(sorted(added))
    canonical = "\n".join(
        ("GET", url.path or "/", url.query, *(f"{name}:{added[name].strip()}" for name in sorted(added)), "", names)
    )
    canonical += f"\n{_NOTHING}"
    scope = f"{day}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{keys.secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    sent = {name: value for name, value in added.items() if name not in ("host", "range")}
    credential = f"{keys.access_key}/{scope}"
    return sent | {
        "Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    }


def _bounded(answer: Answer) -> Iterator[bytes]:
    size_bytes = 0
    while block := answer.read(1 << 20):
        size_bytes += len(block)
        if size_bytes > _LIST_BYTES:
            raise UnreadableSource("the list of the bucket has no end; is that address one of S3?")
        yield block


def _parsed(body: bytes, shown: str) -> tuple[list[Entry], str | None]:
    try:
        # Bounded above; expat itself ends entities that grow without measure.
        root = ET.fromstring(body)  # noqa: S314
    except ET.ParseError as broken:
        raise Broken("its list cannot be understood") from broken
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    if root.tag != f"{space}ListBucketResult":
        raise UnreadableSource(f"{shown} gave no list of a bucket; check the endpoint")
    entries = []
    for each in root.iterfind(f"{space}Contents"):
        key, size = each.findtext(f"{space}Key", ""), each.findtext(f"{space}Size", "")
        if root.findtext(f"{space}EncodingType") == "url":
            key = unquote_plus(key)
        if not size.isdecimal():
            raise UnreadableSource(f"{shown} gave a list without sizes; check the endpoint")
        entries.append(Entry(key=key, size_bytes=int(size)))
    return entries, root.findtext(f"{space}NextContinuationToken")
