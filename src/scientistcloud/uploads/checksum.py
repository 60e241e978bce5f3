"""The header ``Upload-Checksum`` of tus: an algorithm, and what the bytes of one request have to give."""

from __future__ import annotations

import base64
import binascii
import hashlib

from scientistcloud.errors import InvalidParameters
from scientistcloud.uploads.session import Hash

#: In the order of preference; blake3 is ours, the others every client's.
ALGORITHMS = ("sha1", "sha256", "blake3")


class Checksum:
    """What was promised of the bytes that come, and what they give so far (`computed`)."""

    def __init__(self, header: str) -> None:
        """Raises `InvalidParameters` for an algorithm that is not offered, and for what cannot be its value."""
        algorithm, _, encoded = header.strip().partition(" ")
        if algorithm not in ALGORITHMS:
            raise InvalidParameters(
                f"Upload-Checksum names {algorithm[:60]!r}; send {', '.join(ALGORITHMS)} and its value"
            )
        self.algorithm = algorithm
        self.computed = _new(algorithm)
        try:
            self._promised = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            self._promised = b""
        if len(self._promised) != len(self.computed.digest()):
            raise InvalidParameters(f"the value in Upload-Checksum is no {algorithm} in Base64; send what it gives")

    @property
    def holds(self) -> bool:
        """Whether what came is what was promised."""
        return self.computed.digest() == self._promised


def _new(algorithm: str) -> Hash:
    if algorithm == "blake3":
        from blake3 import blake3  # loaded when somebody asks for it

        return blake3()
    return hashlib.new(algorithm, usedforsecurity=False)
