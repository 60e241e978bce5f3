"""Who asks, and for which data set: what every route depends on.

A request is somebody's by ``Authorization: Bearer TOKEN`` or by the cookie of a session; without either it may read
what is public. One that changes
something and comes by cookie must also show that our own page sent it: ``Sec-Fetch-Site`` not from elsewhere,
and the session's token as header ``X-CSRF-Token`` or form field ``csrf_token``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from scientistcloud.access import tokens
from scientistcloud.access.rules import Action, may
from scientistcloud.errors import Forbidden, NotFound, NotLoggedIn
from scientistcloud.portal.recent import RecentStats
from scientistcloud.ports import Store
from scientistcloud.records import Dataset, Job, Person
from scientistcloud.settings import Settings

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf_token"
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and how they said so."""

    person: Person
    #: What a request that changes something must carry; None for a bearer, which no browser sends by itself.
    csrf_token: str | None


class Gate:
    """Who may come in: the local token, and the sessions opened with it. One for each app."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.token = tokens.local_token(settings)
        self.secure = settings.public_url.startswith("https://")
        # All ports of a host share their cookies, so the name tells installations apart.
        prefix = "__Host-" if self.secure else ""
        self.cookie_name = f"{prefix}scientistcloud-{store.meta.installation_id()[:8]}"
        self.person = tokens.local_person(settings)
        self._store = store

    def asker(self, connection: HTTPConnection) -> Asker:
        """Who asks. Reads a session from the database. Raises `NotLoggedIn`."""
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            if tokens.same(token.strip(), self.token):
                return Asker(self.person, None)
            raise NotLoggedIn("the token is not the one of this portal; DATA_DIR/portal.json on its machine has it")
        cookie = connection.cookies.get(self.cookie_name)
        session = tokens.find_session(self._store, cookie) if cookie else None
        if session is None or session.email != self.person.email:
            raise NotLoggedIn(
                "nobody is logged in; open the address with the token that `scientistcloud serve` printed, "
                "or send it as `Authorization: Bearer …`"
            )
        return Asker(self.person, session.csrf_token)

    def reader(self, connection: HTTPConnection) -> Asker | None:
        """Who asks, None for somebody who shows nothing. Raises `NotLoggedIn` for a token that is not ours."""
        try:
            return self.asker(connection)
        except NotLoggedIn:
            if connection.headers.get("authorization", "").lower().startswith("bearer"):
                raise
            return None


def gate(app_scope: Scope) -> Gate:
    """The gate of the app that serves the request."""
    return cast("Gate", app_scope["app"].state.gate)


def authorise(scope: Scope, *, unsafe: bool, shown: str | None = None) -> Person:
    """Who asks, for endpoints in raw ASGI; with `unsafe` the request must have come from our own pages.

    Reads a session from the database: a matter of microseconds, but call it from a thread where that counts.
    Raises `NotLoggedIn`, `Forbidden`.
    """
    connection = HTTPConnection(scope)
    asker = gate(scope).asker(connection)
    if unsafe:
        _require_own_page(asker, connection.headers, shown=shown or connection.headers.get(CSRF_HEADER))
    return asker.person


def _require_own_page(asker: Asker, headers: Headers, *, shown: str | None) -> None:
    if asker.csrf_token is None:
        return
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise Forbidden("another site sent this request; do it from the portal's own page")
    if shown is None or not tokens.same(shown, asker.csrf_token):
        raise Forbidden("the page that sent this is out of date; reload it and try again")


# -- for routes ----------------------------------------------------------------------------------


def _asker(request: Request) -> Asker:
    return gate(request.scope).asker(request)


async def _checked(request: Request, asker: Annotated[Asker, Depends(_asker)]) -> Asker:
    if request.method not in SAFE_METHODS:
        shown = request.headers.get(CSRF_HEADER)
        if shown is None and request.headers.get("content-type", "").startswith(_FORM):
            field = (await request.form()).get(CSRF_FIELD)
            shown = field if isinstance(field, str) else None
        _require_own_page(asker, request.headers, shown=shown)
    return asker


def _reader(request: Request) -> Asker | None:
    return gate(request.scope).reader(request)


def _reading(reader: Annotated[Asker | None, Depends(_reader)]) -> Person | None:
    return reader.person if reader else None


def _caller(asker: Annotated[Asker, Depends(_checked)]) -> Person:
    return asker.person


def _operator(caller: Annotated[Person, Depends(_caller)]) -> Person:
    if not caller.operator:
        raise Forbidden("the figures and workers of the queue are the operator's to see; ask them")
    return caller


def _own_page(request: Request, reader: Annotated[Asker | None, Depends(_reader)]) -> Person | None:
    if reader is None:
        return None
    if reader.csrf_token is not None and request.headers.get("sec-fetch-site") != "same-origin":
        raise Forbidden("another site sent this request; do it from the portal's own page")
    return reader.person


def _store(request: Request) -> Store:
    return cast("Store", request.app.state.store)


def _settings(request: Request) -> Settings:
    return cast("Settings", request.app.state.settings)


def _stats(request: Request) -> RecentStats:
    return cast("RecentStats", request.app.state.stats)


TheAsker = Annotated[Asker, Depends(_checked)]
"""Who asks, with the token that forms must carry."""
Caller = Annotated[Person, Depends(_caller)]
"""Who asks; a request that changes something has shown that it came from our own page."""
Operator = Annotated[Person, Depends(_operator)]
"""Who asks, an operator."""
OwnPage = Annotated[Person | None, Depends(_own_page)]
"""Who asks, None without a log-in, from a page of ours that cannot carry the token; for what changes nothing."""
TheReader = Annotated[Asker | None, Depends(_reader)]
"""Who asks for what may be public, None without a log-in; for what changes nothing."""
Reader = Annotated[Person | None, Depends(_reading)]
"""The person behind `TheReader`."""
TheStore = Annotated[Store, Depends(_store)]
TheSettings = Annotated[Settings, Depends(_settings)]
TheStats = Annotated[RecentStats, Depends(_stats)]


def find_dataset(store: Store, person: Person | None, uuid: str, action: Action) -> Dataset:
    """The data set, if `person` may do `action` with it; else `NotFound`, whether or not there is one."""
    dataset = store.datasets.get(uuid)
    if dataset is not None and may(person, dataset, action):
        return dataset
    if person is None:
        raise NotFound(f"there is no public data set {uuid}; log in to see what is yours")
    raise NotFound(f"there is no data set {uuid} for you; your list shows those that there are")


def find_job(store: Store, person: Person, job_id: str, action: Action) -> Job:
    """The job, if `person` may do `action` with its data set; else `NotFound`."""
    job = store.jobs.get(job_id)
    dataset = store.datasets.get(job.dataset_uuid) if job else None
    if job is None or dataset is None or not may(person, dataset, action):
        raise NotFound(f"there is no job {job_id} for you; your list of jobs shows those that there are")
    return job


def _dataset_for(action: Action) -> Callable[[str, Person, Store], Dataset]:
    def dataset(uuid: str, caller: Caller, store: TheStore) -> Dataset:
        return find_dataset(store, caller, uuid, action)

    return dataset


def _seen_dataset(uuid: str, reader: Reader, store: TheStore) -> Dataset:
    return find_dataset(store, reader, uuid, Action.SEE)


def _job_for(action: Action) -> Callable[[str, Person, Store], Job]:
    def job(job_id: str, caller: Caller, store: TheStore) -> Job:
        return find_job(store, caller, job_id, action)

    return job


SeenDataset = Annotated[Dataset, Depends(_seen_dataset)]
"""The data set that the path names as `uuid`, if whoever asks may see it, with a log-in or without."""
FollowedDataset = Annotated[Dataset, Depends(_dataset_for(Action.FOLLOW))]
"""The data set that the path names as `uuid`, if the caller may know how it came about."""
ChangedDataset = Annotated[Dataset, Depends(_dataset_for(Action.CHANGE))]
"""The data set that the path names as `uuid`, if the caller may change it."""
DeletedDataset = Annotated[Dataset, Depends(_dataset_for(Action.RESTORE))]
"""The deleted data set that the path names as `uuid`, if the caller may have it back."""
SeenJob = Annotated[Job, Depends(_job_for(Action.FOLLOW))]
ChangedJob = Annotated[Job, Depends(_job_for(Action.CHANGE))]
