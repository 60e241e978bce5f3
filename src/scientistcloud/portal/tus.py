"""What tus 1.0 says in headers: read and checked, and written into answers."""

from __future__ import annotations

import base64
from datetime import UTC
from email.utils import format_datetime
from http import HTTPStatus

from starlette.responses import JSONResponse, Response

from scientistcloud.errors import InvalidParameters, TooLarge
from scientistcloud.portal.exchange import Exchange, Refused
from scientistcloud.portal.problems import Problem
from scientistcloud.uploads.checksum import ALGORITHMS, Checksum
from scientistcloud.uploads.record import Upload

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,termination,expiration,checksum,concatenation"
CONTENT_TYPE = "application/offset+octet-stream"
ALLOWED = "OPTIONS, POST, HEAD, GET, PATCH, DELETE"


class Mismatch(Refused):
    """The body is not what its checksum says: a status of tus' own, which Python's list of them does not know."""

    def __init__(self) -> None:
        said = "the bytes are not those of Upload-Checksum; none of them is kept, send them again"
        super().__init__(HTTPStatus.BAD_REQUEST, said)
        body = Problem(HTTPStatus.BAD_REQUEST, said).as_json() | {"title": "Checksum Mismatch", "status": 460}
        self.response = JSONResponse(body, status_code=460, media_type="application/problem+json")


class TusExchange(Exchange):
    """One request of tus."""

    def declared_length(self) -> int | None:
        """How long the upload will be; None where its sender says that it will be known later."""
        if "upload-defer-length" not in self.headers:
            return self.number("upload-length")
        if self.headers["upload-defer-length"] != "1" or "upload-length" in self.headers:
            raise InvalidParameters("send Upload-Length, or Upload-Defer-Length: 1 where it is not known yet")
        return None

    def checksum(self) -> Checksum | None:
        """What the body has to give. Raises `InvalidParameters`."""
        header = self.headers.get("upload-checksum")
        return None if header is None else Checksum(header)

    def require_content_type(self) -> None:
        if self.headers.get("content-type") != CONTENT_TYPE:
            raise Refused(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"bytes of an upload come with Content-Type: {CONTENT_TYPE}"
            )

    def require_offset(self, offset_bytes: int, upload: Upload) -> None:
        if offset_bytes != upload.offset_bytes:
            raise Refused(
                HTTPStatus.CONFLICT,
                f"{upload.offset_bytes} bytes are here; go on from there, not from {offset_bytes}",
                {"Upload-Offset": str(upload.offset_bytes)},
            )

    def require_fits(self, end_bytes: int, length_bytes: int) -> None:
        if end_bytes > length_bytes:
            raise TooLarge(f"the body would end at byte {end_bytes}, but {length_bytes} were declared; send those")

    # -- answers ------------------------------------------------------------------------------------

    def options(self) -> Response:
        most = self.processor.uploads.limits.max_upload_bytes
        return Response(
            status_code=HTTPStatus.NO_CONTENT,
            headers={
                "Tus-Version": VERSION,
                "Tus-Extension": EXTENSIONS,
                "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
                "Allow": ALLOWED,
            }
            | ({} if most is None else {"Tus-Max-Size": str(most)}),
        )

    def opened(self, upload: Upload) -> dict[str, str]:
        headers = {"Location": f"{self.scope['path'].rstrip('/')}/{upload.upload_id}"}
        return headers | ({"Dataset-UUID": upload.dataset_uuid} if upload.dataset_uuid else {})

    def progress(self, upload: Upload) -> dict[str, str]:
        headers = {"Upload-Offset": str(upload.offset_bytes)}
        if upload.is_part or not upload.complete:
            headers["Upload-Expires"] = format_datetime(upload.expires_at.astimezone(UTC), usegmt=True)
        elif upload.sha256 is not None:
            # RFC 9530: so that a client knows that what arrived is what it has.
            value = base64.b64encode(bytes.fromhex(upload.sha256)).decode()
            headers["Repr-Digest"] = f"sha-256=:{value}:"
        return headers
