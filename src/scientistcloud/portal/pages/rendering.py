"""Templates to answers: what every page knows, and how values are written for people."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from math import log10
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from scientistcloud import __version__
from scientistcloud.portal.dependencies import Asker

_PORTAL = Path(__file__).parents[1]
_THIN = "\N{NARROW NO-BREAK SPACE}"


def page(
    template: str, request: Request, asker: Asker | None, *, status_code: int = 200, **known: Any
) -> HTMLResponse:
    """`template` as an answer. It knows `asker`, `csrf_token`, `path`, `address`, and what else is given."""
    query = f"?{request.url.query}" if request.url.query else ""
    text = _ENVIRONMENT.get_template(template).render(
        asker=asker,
        csrf_token=asker.csrf_token or "" if asker else "",
        path=request.url.path,
        address=request.url.path + query,
        **known,
    )
    return HTMLResponse(text, status_code=status_code)


def fragment(template: str, **known: Any) -> str:
    """A part of a page, for an event stream."""
    return _ENVIRONMENT.get_template(template).render(**known)


# -- how values are written ----------------------------------------------------------------------


def size(count: float) -> str:
    """Bytes for people: ``81 MB``, in powers of 1000 as disks are sold."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 999.5 or unit == "TB":
            break
        count /= 1000
    whole = unit == "B" or count >= 9.95
    return f"{count:.0f}{_NBSP}{unit}" if whole else f"{count:.1f}{_NBSP}{unit}"


_NBSP = "\N{NO-BREAK SPACE}"


def number(value: float) -> str:
    """A number with thin separators: ``4 096``; others with the digits that say something."""
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}".replace(",", _THIN) if abs(value) >= 10_000 else str(int(value))
    digits = max(0, 4 - int(log10(abs(value)))) if 1e-3 <= abs(value) < 1e6 else 0
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.4g}"


def shape(lengths: tuple[int, ...] | list[int]) -> str:
    """``256 × 512 × 512``."""
    return " × ".join(number(length) for length in lengths)


def seconds(value: float) -> str:
    """A duration: ``0.8 s``, ``4 min 12 s``, ``3 h 05 min``."""
    if value < 10:
        return f"{value:.1f}{_NBSP}s"
    if value < 60:
        return f"{value:.0f}{_NBSP}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}{_NBSP}min {rest:02d}{_NBSP}s"
    return f"{minutes // 60}{_NBSP}h {minutes % 60:02d}{_NBSP}min"


def instant(value: datetime) -> str:
    """A time as machines read it, for ``<time datetime>``."""
    return value.astimezone(UTC).isoformat(timespec="seconds")


def moment(value: datetime) -> str:
    """A time for people; the page's script turns it into local time."""
    return value.astimezone(UTC).strftime("%d %b %Y, %H:%M UTC")


def capitalize_first(text: str) -> str:
    """A message as a sentence of a page; Jinja's own filter would lower the rest, names of files too."""
    return text[:1].upper() + text[1:]


def paragraphs(text: str) -> list[str]:
    """What people wrote, divided where they left a line empty."""
    return [part.strip() for part in re.split(r"\n\s*\n", text.replace("\r\n", "\n")) if part.strip()]


@cache
def icon(name: str) -> Markup:
    """An icon, drawn in the colour of the text around it."""
    # Our own files by fixed names, so there is nothing to escape.
    return Markup((_PORTAL / f"static/vendor/icons/{name}.svg").read_text())  # noqa: S704


def _asset(name: str) -> str:
    return f"/static/{name}?v={__version__}"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PORTAL / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        size=size,
        number=number,
        shape=shape,
        seconds=seconds,
        instant=instant,
        moment=moment,
        capitalize_first=capitalize_first,
        paragraphs=paragraphs,
    )
    environment.globals.update(asset=_asset, icon=icon)
    return environment


_ENVIRONMENT = _environment()
