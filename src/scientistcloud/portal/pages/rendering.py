"""Templates to answers: what every page knows, and how values are written for people."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse

from scientistcloud import __version__
from scientistcloud.portal.dependencies import Asker

_TEMPLATES = Path(__file__).parents[1] / "templates"
_STATIC = Path(__file__).parents[1] / "static"


def page(
    template: str, request: Request, asker: Asker | None, *, status_code: int = 200, **known: Any
) -> HTMLResponse:
    """`template` as an answer. It knows `asker`, `csrf_token`, `path`, and what else is given."""
    text = _ENVIRONMENT.get_template(template).render(
        asker=asker, csrf_token=asker.csrf_token if asker else None, path=request.url.path, **known
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
    return f"{count:.0f} {unit}" if unit == "B" or count >= 9.95 else f"{count:.1f} {unit}"


def number(value: float) -> str:
    """A number with thin separators: ``4 096``."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def instant(value: datetime) -> str:
    """A time as machines read it, for ``<time datetime>``."""
    return value.astimezone(UTC).isoformat(timespec="seconds")


def moment(value: datetime) -> str:
    """A time for people; the page's script turns it into local time."""
    return value.astimezone(UTC).strftime("%d %b %Y, %H:%M UTC")


def _asset(name: str) -> str:
    return f"/static/{name}?v={__version__}"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(size=size, number=number, instant=instant, moment=moment)
    environment.globals.update(asset=_asset)
    return environment


_ENVIRONMENT = _environment()
