"""What the log says of uploads: each line names the data set, and the upload where it is one."""

from __future__ import annotations

import logging

from scientistcloud.logs import facts
from scientistcloud.uploads.record import Upload

_LOG = logging.getLogger("scientistcloud.uploads")


def tell(event: str, upload: Upload | None = None, *, level: int = logging.INFO, **more: object) -> None:
    """Log `event`; `more` are facts, as in `logs.facts`."""
    if _LOG.isEnabledFor(level):
        if upload is not None:
            more = {"dataset_uuid": upload.dataset_uuid or None, "upload_id": upload.upload_id} | more
        _LOG.log(level, "%s%s", event, facts(**more))
