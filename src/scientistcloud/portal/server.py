"""uvicorn, told what a portal needs: streams end before the server waits for its connections."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from scientistcloud.portal.bodies import UploadProtocol


class PortalServer(uvicorn.Server):
    """Serves `app`; `on_start` is called once it accepts requests."""

    def __init__(self, app: FastAPI, *, on_start: Callable[[], None] | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=UploadProtocol,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=60,
                timeout_graceful_shutdown=5,
            )
        )
        # Its lines hold the query, and so the log-in's token; ours (guards.AccessLog) do not.
        logging.getLogger("uvicorn.access").disabled = True
        self._watcher = app.state.watcher
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_start is not None:
            self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._watcher.close()
        await super().shutdown(sockets)
