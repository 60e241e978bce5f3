"""Every route of the portal asks who is there; a foreign data set does not exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from portal_site import ME, SOMEBODY_ELSE, Site, running_site
from starlette.routing import Mount, Route

from scientistcloud.records import DatasetStatus

# What needs no log-in: liveness for supervisors, the page that logs in, and files that hold nothing of anybody's.
PUBLIC = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("GET", "/public"),
    ("GET", "/api/public"),
}
# What everybody may ask of a public data set. The one POST says what the viewer did; it changes nothing.
READING = {
    ("GET", "/api/datasets/{uuid}"),
    ("GET", "/api/datasets/{uuid}/files"),
    *(
        (method, f"/data/{{uuid}}/{path}")
        for method in ("GET", "HEAD")
        for path in ("source.zip", "converted.zip", "@{token}/{path:path}", "{path:path}")
    ),
    ("GET", "/view-data/{uuid}/@{token}/{name}/value"),
    ("GET", "/view-data/{uuid}/@{token}/{name}/{path:path}"),
    ("HEAD", "/view-data/{uuid}/@{token}/{name}/{path:path}"),
    ("GET", "/scan-data/{uuid}/@{token}/images/{name}"),
    ("GET", "/scan-data/{uuid}/@{token}/frame"),
    ("GET", "/scan-data/{uuid}/@{token}/map"),
    ("GET", "/datasets/{uuid}"),
    ("GET", "/view/{uuid}"),
    ("GET", "/view/{uuid}/v/{view}/"),
    ("GET", "/view/{uuid}/events/{view}"),
    ("POST", "/view/{uuid}/state/{view}"),
}
PUBLIC_MOUNTS = {"/static"}
SAFE = ("GET", "HEAD", "OPTIONS")
TUS = {"Tus-Resumable": "1.0.0", "Upload-Length": "3", "Upload-Offset": "0"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("portal")) as running:
        yield running


@pytest.fixture(scope="module")
def routes(site: Site) -> list[tuple[str, str]]:
    """Every (method, path with its parameters) of the app, those of raw ASGI too."""
    found: list[tuple[str, str]] = []
    for route in flat(site.app.routes):
        if isinstance(route, Mount):
            assert route.path in PUBLIC_MOUNTS, (
                f"{route.path} is mounted without a rights check that this test can see"
            )
            continue
        assert isinstance(route, Route), route
        methods = route.methods or {"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"}
        found += [(method, route.path) for method in sorted(methods)]
    assert len(found) > 30, found
    return found


def flat(routes: Any) -> Iterator[Any]:
    """Routes, those of included routers too, in whatever way FastAPI keeps them."""
    for route in routes:
        inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        if inner and not isinstance(route, Mount):
            yield from flat(inner)
        else:
            yield route


def filled(path: str, **known: str) -> str:
    given = {
        "uuid": "u",
        "job_id": "j",
        "job_type": "dataset_conversion",
        "upload_id": "p",
        "token": "1",
        "name": "image",
        "view": "1.image",
    } | known
    for name, value in given.items():
        path = path.replace(f"{{{name}}}", value)
    path = path.replace("{path:path}", "source/a.tif")
    assert "{" not in path, f"this test does not know how to fill {path}"
    return path


def test_without_a_log_in_every_route_refuses(site: Site, routes: list[tuple[str, str]]) -> None:
    let_in = []
    with site.stranger() as client:
        for method, path in routes:
            if (method, path) in PUBLIC:
                continue
            answer = client.request(method, filled(path), headers=TUS)
            # What may be public is asked for by people who have no log-in: for them it is not there.
            refused = answer.status_code == 404 if (method, path) in READING else wants_log_in(answer)
            if not refused:
                let_in.append((method, path, answer.status_code))

    assert let_in == []


def wants_log_in(answer: httpx.Response) -> bool:
    """Whether it says so, to a program or to a person."""
    to_log_in = answer.status_code == 303 and answer.headers["location"].startswith("/login")
    return answer.status_code == 401 or to_log_in


def test_what_needs_no_log_in_is_what_this_test_lists(site: Site, routes: list[tuple[str, str]]) -> None:
    assert set(routes) >= PUBLIC | READING


@pytest.mark.parametrize("who", ["nobody", "another", "another's browser"])
def test_of_a_public_data_set_others_may_ask_for_what_it_holds_and_nothing_else(
    site: Site, routes: list[tuple[str, str]], who: str
) -> None:
    public = site.add_dataset("public", user=SOMEBODY_ELSE, public=True)
    site.add_file(public, "a.tif", b"for all")
    job = site.add_job(public)
    before = site.store.datasets.get(public), site.store.jobs.get(job)
    doors: dict[str, Callable[[], AbstractContextManager[httpx.Client]]] = {
        "nobody": site.stranger,
        "another": site.program,
        "another's browser": site.browser,
    }
    wrong = []
    with doors[who]() as client:
        proof = {"X-CSRF-Token": site.csrf(client)} if who == "another's browser" else {}
        for method, path in routes:
            if "{uuid}" not in path and "{job_id}" not in path:
                continue
            address = filled(path, uuid=public, job_id=job)
            answer = client.request(method, address, headers=TUS | proof | {"Sec-Fetch-Site": "same-origin"})
            if (method, path) in READING:
                # There is no form, and the questions are poor ones; but nobody is asked who they are.
                fine = not wants_log_in(answer) and answer.status_code in (200, 400, 404, 422)
            else:
                fine = wants_log_in(answer) if who == "nobody" else answer.status_code == 404
            if not fine:
                wrong.append((method, path, answer.status_code))
        assert client.get(f"/datasets/{public}").status_code == 200
        assert client.get(f"/data/{public}/source/a.tif").content == b"for all"

    assert wrong == []
    assert (site.store.datasets.get(public), site.store.jobs.get(job)) == before


def test_a_token_that_is_not_ours_is_said_even_where_none_is_needed(site: Site) -> None:
    with site.stranger() as client:
        answers = [
            client.get(path, headers={"Authorization": "Bearer no"}) for path in ("/api/public", "/data/u/x")
        ]

    assert [answer.status_code for answer in answers] == [401, 401]


def test_what_is_public_says_nothing_of_its_owner_nor_of_the_server(site: Site) -> None:
    where = f"{site.settings.data_dir}/beamline"
    facts = {"place": where, "notice": f"{where}/a.tif changed", "error": f"no room at {where}"}
    public = site.add_dataset(
        "public", user=SOMEBODY_ELSE, public=True, status=DatasetStatus.CONVERSION_ERROR, size_bytes=3, **facts
    )
    site.add_job(public)
    paths = ("/public", "/api/public", f"/datasets/{public}", f"/api/datasets/{public}")
    with site.stranger() as client:
        told = {path: client.get(path) for path in (*paths, f"/api/datasets/{public}/files")}

    for path, answer in told.items():
        assert answer.status_code == 200, path
        for secret in (SOMEBODY_ELSE, "beamline", str(site.settings.data_dir), "csrf_token", "job_id", "/events"):
            assert secret not in answer.text, (path, secret)


def test_a_foreign_data_set_its_jobs_and_bytes_do_not_exist(site: Site, routes: list[tuple[str, str]]) -> None:
    foreign = site.add_dataset("foreign", user=SOMEBODY_ELSE)
    site.add_file(foreign, "a.tif", b"secret")
    job = site.add_job(foreign)
    seen = []
    with site.program() as client:
        for method, path in routes:
            if "{uuid}" not in path and "{job_id}" not in path:
                continue
            answer = client.request(method, filled(path, uuid=foreign, job_id=job))
            if answer.status_code != 404:
                seen.append((method, path, answer.status_code))

    assert seen == []
    still = site.store.jobs.get(job)
    assert still is not None
    assert not still.status.ended


def test_a_foreign_data_set_looks_like_one_that_never_was(site: Site) -> None:
    foreign = site.add_dataset("foreign", user=SOMEBODY_ELSE)
    with site.program() as client:
        hidden = client.get(f"/api/datasets/{foreign}").json()
        absent = client.get("/api/datasets/never").json()

    assert hidden["detail"].replace(foreign, "X") == absent["detail"].replace("never", "X")


def test_a_deleted_data_set_is_gone_for_its_owner_too(site: Site) -> None:
    deleted = site.add_dataset("deleted", deleted_at=site.store.clock.now())
    with site.program() as client:
        assert client.get(f"/api/datasets/{deleted}").status_code == 404
        assert client.get(f"/datasets/{deleted}").status_code == 404


def test_every_change_by_cookie_needs_proof_of_our_own_page(site: Site, routes: list[tuple[str, str]]) -> None:
    mine = site.add_dataset("mine", status=DatasetStatus.UPLOADING, closed_at=None)
    job = site.add_job(mine)
    let_through = []
    with site.browser() as browser:
        for method, path in routes:
            if method in SAFE or (method, path) in PUBLIC:
                continue
            address = filled(path, uuid=mine, job_id=job)
            answer = browser.request(method, address, headers=TUS | {"Sec-Fetch-Site": "cross-site"})
            if answer.status_code != 403:
                let_through.append((method, path, answer.status_code))

    assert let_through == []


def test_every_answer_carries_the_security_headers(site: Site, routes: list[tuple[str, str]]) -> None:
    bare = []
    with site.program() as client:
        for method, path in routes:
            if method != "GET" or path.endswith(("events", "/events/{view}")):
                continue
            headers = client.get(filled(path)).headers
            policy = headers.get("content-security-policy", "")
            if headers.get("x-content-type-options") != "nosniff" or "default-src 'none'" not in policy:
                bare.append(path)
            assert "unsafe-inline" not in policy
            assert "unsafe-eval" not in policy

    assert bare == []


def test_only_the_viewers_own_scripts_may_evaluate_code(site: Site) -> None:
    def policy(path: str) -> str:
        with site.stranger() as client:
            answer = client.get(path)
            assert answer.status_code == 200, path
            return answer.headers["content-security-policy"]

    viewer = next(p.name for p in site.static.glob("vendor/neuroglancer/main.*.js"))

    assert "'unsafe-eval'" in policy(f"/static/vendor/neuroglancer/{viewer}")
    assert "unsafe-eval" not in policy("/static/vendor/htmx/htmx.min.js")
    assert "unsafe-eval" not in policy("/static/dataset.js")
    assert "unsafe-eval" not in policy("/static/vendor/neuroglancer/index.html")


def test_nobody_may_frame_our_pages_but_ourselves_the_viewer(site: Site) -> None:
    mine = site.add_dataset("mine")
    with site.program() as client:
        assert "frame-ancestors 'none'" in client.get(f"/datasets/{mine}").headers["content-security-policy"]


def test_a_large_body_is_refused_before_it_is_read(site: Site) -> None:
    with site.program() as client:
        declared = client.post("/api/datasets", content=b"x" * 3_000_000)
        streamed = client.post(
            "/api/datasets",
            content=(b"[" * 65536 for _ in range(64)),
            headers={"Content-Type": "application/json"},
        )

    assert declared.status_code == 413
    assert streamed.status_code == 413
    assert declared.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/api/nothing", "/nothing", "/data/", "/datasets/", "/static/nothing.js"])
def test_what_is_not_there_is_said_to_programs_and_people_in_their_own_words(site: Site, path: str) -> None:
    with site.program() as client:
        answer = client.get(path)

    assert answer.status_code == 404
    for_programs = path.startswith(("/api", "/data/", "/static"))
    assert answer.headers["content-type"].startswith("application/problem+json" if for_programs else "text/html")


def test_a_request_that_is_not_understood_says_where(site: Site) -> None:
    with site.program() as client:
        answer = client.post("/api/datasets", json={"nonsense": 1})

    assert answer.status_code == 422
    assert "name: Field required" in answer.json()["detail"]


def test_an_error_in_our_own_code_tells_nothing_and_is_logged(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> object:
        raise ZeroDivisionError("the password is swordfish")

    # The only way to see what nobody foresaw is to make it happen.
    monkeypatch.setattr(site.store.jobs, "current", broken)
    with site.program() as client:
        answer = client.get("/api/jobs")

    assert answer.status_code == 500
    assert "swordfish" not in answer.text
    assert "swordfish" in caplog.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_openapi_describes_what_programs_use(site: Site) -> None:
    with site.program() as client:
        described = client.get("/api/openapi.json").json()

    assert {"/api/jobs", "/api/jobs/{job_id}/cancel", "/api/events", "/api/datasets"} <= set(described["paths"])
    assert "/jobs" not in described["paths"]


def test_ready_means_that_the_database_answers(site: Site) -> None:
    with site.stranger() as client:
        assert client.get("/readyz").json() == {"status": "ready"}


def test_the_caller_is_who_the_settings_name(site: Site) -> None:
    with site.program() as client:
        opened = client.post("/api/datasets", json={"name": "whose"}).json()

    assert opened["user"] == ME
    assert isinstance(client, httpx.Client)
