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

#: Name in the form, label, what it is for, and whether it is one of several lines.
CREDENTIALS = (
    ("login", "Login", "web, SFTP, WebDAV", False),
    ("password", "Password", "web, SFTP, WebDAV", True),
    ("bearer", "Token", "web, WebDAV", True),
    ("access_key", "Access key", "S3", False),
    ("secret_key", "Secret key", "S3", True),
    ("session_token", "Session token", "S3, where keys are temporary", True),
    ("endpoint", "Endpoint", "S3 outside of AWS: https://s3.example.org", False),
    ("region", "Region", "S3, if not us-east-1", False),
    ("host_key", "Host key", "SFTP: the line that ssh-keyscan prints, without the host", False),
    ("private_key", "Private key", "SFTP: the whole text of the key", True),
    ("passphrase", "Passphrase", "SFTP: of that key", True),
    ("service_account", "Service account", "Google Drive: the JSON of its key", True),
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
    fields = {field: str(said.get(field) or "") for field, *_ in CREDENTIALS}

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
