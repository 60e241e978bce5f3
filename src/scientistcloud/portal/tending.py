"""The care of uploads while the portal runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from scientistcloud.errors import ScientistCloudError
from scientistcloud.uploads.processor import UploadProcessor

_LOG = logging.getLogger(__name__)

_TEND_SECONDS = 600.0


@asynccontextmanager
async def tending(processor: UploadProcessor) -> AsyncIterator[None]:
    """While the portal runs: finish what a crash interrupted, now and every ten minutes, and end what expired."""

    async def tend() -> None:
        while True:
            try:
                await asyncio.to_thread(processor.tend)
            except ScientistCloudError as failed:
                _LOG.warning("uploads could not be tended, will be tried again: %s", failed)
            except Exception:  # noqa: BLE001  # the next round may do better, and there must be one
                _LOG.exception("uploads could not be tended")
            await asyncio.sleep(_TEND_SECONDS)

    task = asyncio.create_task(tend())
    try:
        yield
    finally:
        processor.stop()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
