"""Alive, and able to serve: for supervisors and load balancers, without a log-in."""

from __future__ import annotations

from fastapi import APIRouter

from scientistcloud.portal.dependencies import TheStore

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers. Asks nothing of the database or the disk."""
    return {"status": "alive"}


@router.get("/readyz")
def readyz(store: TheStore) -> dict[str, str]:
    """The database answers too; else 503 and why."""
    store.meta.installation_id()
    return {"status": "ready"}
