"""Who comes in, by which door, and what a browser must show before it changes anything."""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from portal_site import BEARER, TOKEN, Site, running_site

from scientistcloud.access.tokens import local_token
from scientistcloud.settings import read_settings


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("portal")) as running:
        yield running


def test_the_printed_address_logs_in_once_and_leads_to_the_bare_address(site: Site) -> None:
    with site.stranger() as client:
        answer = client.get("/jobs", params={"token": TOKEN, "show": "failed"})
        cookie = answer.headers["set-cookie"]
        again = client.get("/jobs")

    assert answer.status_code == 303
    assert answer.headers["location"] == "/jobs?show=failed"
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie
    assert site.store.meta.installation_id()[:8] in cookie.split("=")[0]
    assert again.status_code == 200


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example", "/%2f/evil.example"])
def test_the_log_in_never_leads_to_another_site(site: Site, path: str) -> None:
    with site.stranger() as client:
        by_address = client.send(client.build_request("GET", f"{site.url}{path}?token={TOKEN}"))
        by_form = client.post("/login", data={"token": TOKEN, "next": path})

    for answer in (by_address, by_form):
        location = answer.headers["location"]
        assert location.startswith("/")
        assert not location.startswith(("//", "/\\"))


def test_a_wrong_token_in_the_address_opens_nothing(site: Site) -> None:
    with site.stranger() as client:
        answer = client.get("/", params={"token": "wrong"})
        shown = client.get(answer.headers["location"])

    assert answer.status_code == 303
    assert "set-cookie" not in answer.headers
    assert "not this portal’s token" in shown.text


def test_the_token_can_be_pasted_into_the_log_in_page_without_a_script(site: Site) -> None:
    with site.stranger() as client:
        first = client.get("/jobs")
        refused = client.post("/login", data={"token": "wrong", "next": "/jobs"})
        answer = client.post("/login", data={"token": f" {TOKEN}\n", "next": "/jobs"})
        page = client.get("/jobs")

    assert first.headers["location"] == "/login?next=/jobs"
    assert refused.status_code == 401
    assert answer.headers["location"] == "/jobs"
    assert page.status_code == 200


def test_logging_out_ends_the_session_on_the_server_too(site: Site) -> None:
    with site.browser() as browser:
        cookies = dict(browser.cookies)
        answer = browser.post("/logout", data={"csrf_token": site.csrf(browser)})
        with site.stranger() as thief:
            thief.cookies.update(cookies)
            stolen = thief.get("/api/jobs")

    assert answer.status_code == 303
    assert stolen.status_code == 401


@pytest.mark.parametrize("header", [b"Bearer wrong", f"Basic {TOKEN}".encode(), b"Bearer", b"Bearer \xff"])
def test_a_program_with_another_token_is_told_so(site: Site, header: bytes) -> None:
    with site.stranger() as client:
        answer = client.get("/api/jobs", headers=[(b"Authorization", header)])

    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"] == "NotLoggedIn"


def test_a_change_by_cookie_needs_the_token_of_our_own_page(site: Site) -> None:
    with site.browser() as browser:
        token = site.csrf(browser)
        without = browser.post("/api/datasets", json={"name": "forged"})
        wrong = browser.post("/api/datasets", json={"name": "forged"}, headers={"X-CSRF-Token": "x" + token})
        cross_site = browser.post(
            "/api/datasets",
            json={"name": "forged"},
            headers={"X-CSRF-Token": token, "Sec-Fetch-Site": "cross-site"},
        )
        right = browser.post(
            "/api/datasets",
            json={"name": "mine"},
            headers={"X-CSRF-Token": token, "Sec-Fetch-Site": "same-origin"},
        )

    assert [each.status_code for each in (without, wrong, cross_site)] == [403, 403, 403]
    assert right.status_code == 201


def test_the_token_of_one_session_does_not_serve_another(site: Site) -> None:
    with site.browser() as mine, site.browser() as another:
        answer = mine.post("/api/datasets", json={"name": "x"}, headers={"X-CSRF-Token": site.csrf(another)})

    assert answer.status_code == 403


def test_a_program_with_the_bearer_token_needs_no_csrf_token(site: Site) -> None:
    with site.program() as program:
        answer = program.post("/api/datasets", json={"name": "by program"})

    assert answer.status_code == 201


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1].evil"])
def test_a_name_that_another_site_points_at_us_is_refused(site: Site, host: str) -> None:
    with site.stranger() as client:
        answer = client.get("/healthz", headers=BEARER | {"Host": host})

    assert answer.status_code in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1", "[::1]:8080"])
def test_the_names_of_this_machine_are_ours(site: Site, host: str) -> None:
    with site.stranger() as client:
        answer = client.get("/healthz", headers={"Host": host})

    assert answer.status_code == 200


def test_the_access_log_has_no_query_which_could_hold_the_token(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), site.stranger() as client:
        client.get("/jobs", params={"token": TOKEN})

    lines = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    assert any("GET '/jobs' status=303" in line for line in lines)
    assert TOKEN not in "".join(lines)


def test_the_drawn_token_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    settings = read_settings(data_dir=tmp_path / "new")

    first, second = local_token(settings), local_token(settings)

    assert first == second
    assert len(first) >= 32
    assert stat.S_IMODE(settings.folder.token.stat().st_mode) == 0o600


def test_behind_https_the_cookie_is_secure_and_bound_to_the_host(tmp_path: Path) -> None:
    with (
        running_site(tmp_path, public_url="https://data.example.org") as site,
        site.stranger() as client,
    ):
        cookie = client.get("/", params={"token": TOKEN}).headers["set-cookie"]

    assert cookie.startswith("__Host-scientistcloud-")
    assert "Secure" in cookie
