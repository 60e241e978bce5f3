"""Small files that come at the same time are taken in together: who comes while others are is in the next round.

One round at a time in one thread: its syncs are shared by all in it, and the more wait, the larger the next one is.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from scientistcloud.errors import ScientistCloudError
from scientistcloud.uploads.processor import UploadProcessor
from scientistcloud.uploads.receiving import SmallFile
from scientistcloud.uploads.record import Upload

_MOST_FILES = 64


class Gathering:
    """The rounds of one app; `take` is to be called from one event loop."""

    def __init__(self, processor: UploadProcessor) -> None:
        self._processor = processor
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="small-files")
        self._waiting: list[tuple[SmallFile, asyncio.Future[Upload]]] = []
        self._rounds: asyncio.Task[None] | None = None

    async def take(self, file: SmallFile) -> Upload:
        """What `UploadProcessor.take_small` says of the file; raises what it gives as an error."""
        done: asyncio.Future[Upload] = asyncio.get_running_loop().create_future()
        self._waiting.append((file, done))
        if self._rounds is None:
            self._rounds = asyncio.create_task(self._go_round())
        return await done

    def close(self) -> None:
        self._thread.shutdown()
        self._processor.small.close()

    async def _go_round(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                files = self._waiting[:_MOST_FILES]
                del self._waiting[:_MOST_FILES]
                took: list[Upload | ScientistCloudError] | Exception
                try:
                    took = await loop.run_in_executor(
                        self._thread, self._processor.take_small, [file for file, _ in files]
                    )
                except Exception as failed:  # noqa: BLE001  # whoever waits gets it
                    took = failed
                for at, (_, done) in enumerate(files):
                    if done.cancelled():
                        continue
                    result = took if isinstance(took, Exception) else took[at]
                    if isinstance(result, Exception):
                        done.set_exception(result)
                    else:
                        done.set_result(result)
        finally:
            self._rounds = None
