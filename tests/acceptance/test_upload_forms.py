"""Uploads by a plain form: curl, and pages without JavaScript."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from intake_site import BEARER, MAX_UPLOAD_BYTES, OWNER, Portal

from requirements import unavailable
from scientistcloud.access import tokens
from scientistcloud.records import Person


def names_of(owner: httpx.Client) -> list[str]:
    return [each["name"] for each in owner.get("/api/datasets").json()["datasets"]]


def test_curl_sends_files_as_one_data_set(portal: Portal, owner: httpx.Client, tmp_path: Path) -> None:
    contents = {"a.tif": os.urandom(5 * 2**20), "größe.tif": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    files = [part for name in contents for part in ("-F", f"file=@{tmp_path / name}")]

    if shutil.which("curl") is None:
        unavailable("curl", "apt-get install curl")
    said = subprocess.run(
        ["curl", "-sS", "-H", f"Authorization: {BEARER['Authorization']}", "-F", "name=by form",
         "-F", "sensor=TIFF", *files, f"{portal.url}/api/uploads/"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    uuid = json.loads(said.stdout)["dataset_uuid"]
    dataset = owner.get(f"/api/datasets/{uuid}").json()
    assert (dataset["name"], dataset["sensor"], dataset["user"]) == ("by form", "TIFF", OWNER)
    assert {name: portal.source(uuid, name) for name in contents} == contents
    assert portal.jobs_of(uuid) == [f"convert:{uuid}:1"]
    assert portal.uploads() == []


def test_a_form_may_ask_for_no_conversion(portal: Portal, owner: httpx.Client) -> None:
    answer = owner.post("/api/uploads/", data={"convert": "false"}, files={"file": ("a.tif", b"abc")})

    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/datasets/{answer.json()['dataset_uuid']}"
    assert portal.jobs_of(answer.json()["dataset_uuid"]) == []


def test_a_browser_is_led_to_the_page_and_must_show_that_the_form_was_ours(
    portal: Portal, owner: httpx.Client
) -> None:
    with portal.store() as store:
        cookie, session = tokens.open_session(store, Person(email=OWNER))
        name = f"scientistcloud-{store.meta.installation_id()[:8]}"
    headers = {"Cookie": f"{name}={cookie}", "Accept": "text/html"}
    files = {"file": ("forged.tif", b"abc")}
    before = names_of(owner)
    with portal.client() as browser:
        without = browser.post("/api/uploads/", headers=headers, files=files)
        wrong = browser.post("/api/uploads/", headers=headers, data={"csrf_token": "x" * 43}, files=files)
        elsewhere = browser.post(
            "/api/uploads/", headers=headers | {"Sec-Fetch-Site": "cross-site"},
            data={"csrf_token": session.csrf_token}, files=files,
        )  # fmt: skip
        assert [each.status_code for each in (without, wrong, elsewhere)] == [403, 403, 403]
        assert names_of(owner) == before

        own = browser.post("/api/uploads/", headers=headers, data={"csrf_token": session.csrf_token}, files=files)

        assert own.status_code == 303
        assert browser.get(own.headers["Location"], headers=headers).status_code == 200
    assert httpx.post(f"{portal.url}/api/uploads/", files=files).status_code == 401


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [("../up.tif", b"abc", 400), ("large.tif", bytes(MAX_UPLOAD_BYTES + 1), 413), ("", b"", 400)],
)
def test_a_form_with_something_wrong_leaves_nothing(
    portal: Portal, owner: httpx.Client, name: str, content: bytes, status: int
) -> None:
    before = names_of(owner)

    answer = owner.post("/api/uploads/", files={"file": (name, content)})

    assert answer.status_code == status, answer.text
    assert names_of(owner) == before
    assert portal.uploads() == []


def test_a_form_with_two_files_of_one_name_loses_neither_in_silence(portal: Portal, owner: httpx.Client) -> None:
    answer = owner.post("/api/uploads/", files=[("file", ("a.tif", b"one")), ("file", ("a.tif", b"two"))])

    assert answer.status_code == 400
    assert "two files called 'a.tif'" in answer.json()["detail"]
    kept = owner.get("/api/datasets").json()["datasets"][0]
    assert (kept["status"], kept["error"]) == ("upload error", answer.json()["detail"])
    assert portal.source(kept["uuid"], "a.tif") == b"one"
    assert portal.uploads() == []


def test_what_is_no_form_is_refused(owner: httpx.Client) -> None:
    broken = owner.post(
        "/api/uploads/", headers={"Content-Type": "multipart/form-data; boundary=x"}, content=b"--y\r\n\r\nabc"
    )
    bare = owner.post("/api/uploads/", headers={"Content-Type": "multipart/form-data"}, content=b"abc")

    assert [broken.status_code, bare.status_code] == [400, 400]
