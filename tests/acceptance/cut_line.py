"""A wire to a server of MongoDB's protocol that can be cut in the middle of a command."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Line:
    """Carries commands to `server` and answers back; `cut_after` loses the answer to the next one that says so."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._cut: bytes | None = None
        self._open: set[socket.socket] = set()
        #: How many answers were lost.
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_after(self, *words: bytes) -> None:
        """The server gets the next command that holds all `words`, and its answer is lost with the connection."""
        self._words = words
        self._cut = words[0]

    def close(self) -> None:
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError), client, socket.create_connection(self._server) as server:
            self._open |= {client, server}
            while True:
                command = _message(client)
                server.sendall(command)
                answer = _message(server)
                if self._cut is not None and all(word in command for word in self._words):
                    self._cut = None
                    self.lost += 1
                    return
                client.sendall(answer)


@contextmanager
def line_to(address: str) -> Iterator[Line]:
    """A line to the server at ``host:port``."""
    host, _, port = address.rpartition(":")
    line = Line((host, int(port)))
    try:
        yield line
    finally:
        line.close()


def _message(connection: socket.socket) -> bytes:
    length = _exactly(connection, 4)
    return length + _exactly(connection, struct.unpack("<i", length)[0] - 4)


def _exactly(connection: socket.socket, number: int) -> bytes:
    received = b""
    while len(received) < number:
        part = connection.recv(number - len(received))
        if not part:
            raise EOFError
        received += part
    return received
