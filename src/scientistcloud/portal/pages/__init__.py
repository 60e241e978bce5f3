"""The pages: one a file, with a template of the same name."""

from __future__ import annotations

from fastapi import APIRouter


def routers() -> tuple[APIRouter, ...]:
    """The routers of the pages."""
    return ()
