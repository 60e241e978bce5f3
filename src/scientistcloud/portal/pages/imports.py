"""The page on which an import is begun; its progress is on the data set's own page."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from scientistcloud.errors import InvalidParameters
from scientistcloud.portal.api.datasets import TheProcessor
from scientistcloud.portal.dependencies import Asker, TheAsker, TheSettings, TheStore
from scientistcloud.portal.live import snapshot
from scientistcloud.portal.pages.rendering import page
from scientistcloud.portal.pages.shell import shell
from scientistcloud.ports import Store
from scientistcloud.uploads import importing

router = APIRouter(include_in_schema=False)

#: What a group is for, and its fields: name in the form, label, what it is for, and whether it is a secret.
CREDENTIALS = (
    (
        "Log-in for web, WebDAV, SFTP",
        (
            ("login", "Login", "", False),
            ("password", "Password", "", True),
            ("bearer", "Token", "instead, for web and WebDAV", True),
        ),
    ),
    (
        "Keys for SFTP",
        (
            ("host_key", "Host key", "the line that ssh-keyscan prints, without the host; needed", False),
            ("private_key", "Private key", "the whole text of the key", True),
            ("passphrase", "Passphrase", "of that key", True),
        ),
    ),
    (
        "Keys for S3",
        (
            ("access_key", "Access key", "", False),
            ("secret_key", "Secret key", "", True),
            ("session_token", "Session token", "where keys are temporary", True),
            ("endpoint", "Endpoint", "outside of AWS: https://s3.example.org", False),
            ("region", "Region", "if not us-east-1", False),
        ),
    ),
    (
        "Google Drive",
        (
            ("service_account", "Service account", "the JSON of its key", True),
            ("folder_id", "Folder", "its id, where the path begins", False),
            ("shared_drive", "Shared drive", "its id", False),
        ),
    ),
)
_TEXTS = ("private_key", "service_account")


@router.get("/import")
def show(request: Request, asker: TheAsker, store: TheStore) -> Response:
    """The form."""
    return _form(request, asker, store)


@router.post("/import")
async def begin(
    request: Request,
    asker: TheAsker,
    store: TheStore,
    settings: TheSettings,
    processor: TheProcessor,
    url: Annotated[str, Form()] = "",
    name: Annotated[str, Form()] = "",
    convert: Annotated[bool, Form()] = False,
) -> Response:
    """Begin it, and on to the data set's page; where it cannot be, the form again with the reason."""
    from starlette.concurrency import run_in_threadpool

    said = await request.form()
    fields = {field: str(said.get(field) or "") for _, group in CREDENTIALS for field, *_ in group}

    def start() -> Response:
        try:
            dataset = importing.begin(
                processor,
                user=asker.person.email,
                url=url,
                fields={field: text for field, text in fields.items() if text.strip()},
                name=name.strip() or None,
                convert=convert,
                private_addresses=settings.import_private_addresses,
            )
        except InvalidParameters as wrong:
            # What was typed comes back, but for what opens the source.
            return _form(request, asker, store, url=url, name=name, convert=convert, wrong=str(wrong))
        return RedirectResponse(f"/datasets/{dataset.uuid}", HTTPStatus.SEE_OTHER)

    return await run_in_threadpool(start)


def _form(
    request: Request,
    asker: Asker,
    store: Store,
    *,
    url: str = "",
    name: str = "",
    convert: bool = True,
    wrong: str | None = None,
) -> Response:
    answer = page(
        "import.html",
        request,
        asker,
        shell=shell(store, asker.person),
        credentials=CREDENTIALS,
        texts=_TEXTS,
        url=url,
        name=name,
        convert=convert,
        wrong=wrong,
        seen=snapshot(store, asker.person).structure,
    )
    if wrong is not None:
        answer.status_code = HTTPStatus.BAD_REQUEST
    return answer
