"""Data sets over real HTTP: opened, filled, closed, described, converted again; whose they are."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from intake_site import OWNER, Portal, opened, sent

from scientistcloud.datasets import catalogue

NOBODY = "00000000-0000-4000-8000-000000000000"


def new(owner: httpx.Client, name: str = "Cells", **said: Any) -> str:
    answer = owner.post("/api/datasets", json={"name": name, **said})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["uuid"])


def with_file(owner: httpx.Client, uuid: str, path: str = "a.tif", content: bytes = b"abc") -> None:
    answer = opened(owner, len(content), name=path, dataset=uuid)
    assert sent(owner, answer.headers["Location"], 0, content).status_code == 204


def test_a_data_set_is_opened_filled_and_closed_and_has_one_job(portal: Portal, owner: httpx.Client) -> None:
    uuid = new(owner, "Cells, day 1", sensor="TIFF", tags=["cells"], description="two frames")
    with_file(owner, uuid, "day 1/a.tif")
    with_file(owner, uuid, "day 1/b.tif", b"defg")
    assert owner.get(f"/api/datasets/{uuid}").json()["status"] == "uploading"
    assert portal.jobs_of(uuid) == []

    closed = [owner.post(f"/api/datasets/{uuid}/close").json() for _ in range(2)]

    assert [each["status"] for each in closed] == ["conversion queued"] * 2
    assert portal.jobs_of(uuid) == [f"convert:{uuid}:1"]
    record = owner.get(f"/api/datasets/{uuid}").json()
    assert (record["name"], record["user"], record["size_bytes"]) == ("Cells, day 1", OWNER, 7)
    assert (record["tags"], record["description"], record["revision"]) == (["cells"], "two frames", 1)
    files = owner.get(f"/api/datasets/{uuid}/files").json()["files"]
    assert [(file["path"], file["size_bytes"]) for file in files] == [("day 1/a.tif", 3), ("day 1/b.tif", 4)]
    [job] = owner.get(f"/api/datasets/{uuid}/jobs").json()["jobs"]
    assert (job["job_type"], job["dataset_uuid"], job["status"]) == ("dataset_conversion", uuid, "pending")
    assert job["parameters"]["sensor_type"] == "TIFF"
    assert OWNER not in str(job)


def test_closing_tells_what_is_missing(owner: httpx.Client) -> None:
    uuid = new(owner)
    empty = owner.post(f"/api/datasets/{uuid}/close")
    assert (empty.status_code, "has no file yet" in empty.json()["detail"]) == (409, True)

    opened(owner, 5, name="a.tif", dataset=uuid)
    unfinished = owner.post(f"/api/datasets/{uuid}/close")

    assert (unfinished.status_code, "still on their way" in unfinished.json()["detail"]) == (409, True)


def test_a_closed_data_set_can_be_opened_again_for_more(portal: Portal, owner: httpx.Client) -> None:
    uuid = new(owner)
    with_file(owner, uuid)
    owner.post(f"/api/datasets/{uuid}/close", json={"convert": False})
    assert owner.get(f"/api/datasets/{uuid}").json()["status"] == "done"
    assert opened(owner, 1, name="b.tif", dataset=uuid).status_code == 409

    assert owner.post(f"/api/datasets/{uuid}/open").json()["status"] == "uploading"
    with_file(owner, uuid, "b.tif")
    owner.post(f"/api/datasets/{uuid}/close")

    assert portal.jobs_of(uuid) == [f"convert:{uuid}:2"]


def test_converting_again_makes_one_job_a_request(portal: Portal, owner: httpx.Client) -> None:
    uuid = new(owner)
    assert owner.post(f"/api/datasets/{uuid}/convert").status_code == 409
    with_file(owner, uuid)
    owner.post(f"/api/datasets/{uuid}/close")

    answers = [owner.post(f"/api/datasets/{uuid}/convert", json={"request": "click"}) for _ in range(2)]
    other = owner.post(f"/api/datasets/{uuid}/convert")

    assert [answer.status_code for answer in (*answers, other)] == [202, 202, 202]
    assert answers[0].json() == answers[1].json() != other.json()
    assert len(portal.jobs_of(uuid)) == 3


def test_a_description_changes_what_it_names_and_nothing_else(owner: httpx.Client) -> None:
    uuid = new(owner, "before", tags=["kept"])

    said = owner.patch(f"/api/datasets/{uuid}", json={"name": "<b>after</b> 🔬", "public": True}).json()

    assert (said["name"], said["public"], said["tags"], said["status"]) == (
        "<b>after</b> 🔬",
        True,
        ["kept"],
        "uploading",
    )
    assert owner.get(f"/api/datasets/{uuid}").json()["name"] == "<b>after</b> 🔬"


@pytest.mark.parametrize(
    "said",
    [
        {"name": ""},
        {"name": " \t"},
        {"name": "a\0b"},
        {"name": "x" * 301},
        {"name": "\ud800"},
        {"name": "a", "tags": ["x"] * 51},
        {"name": "a", "sensor": ""},
        {"name": "a", "description": "\0"},
    ],
)
def test_what_cannot_be_a_data_set_is_refused_in_words(owner: httpx.Client, said: dict[str, Any]) -> None:
    answer = owner.post("/api/datasets", content=_json(said), headers={"Content-Type": "application/json"})

    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"


def _json(said: dict[str, Any]) -> bytes:
    import json

    return json.dumps(said).encode()  # escapes what is no Unicode, as a hostile owner would


@pytest.mark.parametrize("body", [{"status": "done"}, {"user": "bob@example.org"}, {"token": 9}, {"forms": []}])
def test_what_the_processing_writes_cannot_be_written_by_people(owner: httpx.Client, body: dict[str, Any]) -> None:
    uuid = new(owner)

    assert owner.patch(f"/api/datasets/{uuid}", json=body).status_code == 422
    assert owner.get(f"/api/datasets/{uuid}").json()["status"] == "uploading"


def test_the_list_is_the_callers_newest_first_in_pages_and_by_text(portal: Portal, owner: httpx.Client) -> None:
    with portal.store() as store:
        catalogue.open_dataset(store, user="bob@example.org", name="listed bob")
    uuids = [new(owner, f"listed {n}") for n in range(3)]

    def listed(**params: object) -> list[str]:
        answer = owner.get("/api/datasets", params={"text": "LISTED", **params})  # type: ignore[dict-item]
        return [dataset["uuid"] for dataset in answer.json()["datasets"]]

    assert listed() == uuids[::-1]
    assert listed(limit=2) + listed(after=uuids[1]) == uuids[::-1]
    assert listed(status="done") == []


@pytest.mark.parametrize(
    ("method", "tail", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"name": "mine now"}),
        ("GET", "/files", None),
        ("GET", "/jobs", None),
        ("POST", "/close", {}),
        ("POST", "/open", {}),
        ("POST", "/convert", {}),
    ],
)
def test_another_persons_data_set_looks_like_none(
    portal: Portal, owner: httpx.Client, method: str, tail: str, body: dict[str, Any] | None
) -> None:
    with portal.store() as store:
        foreign = catalogue.open_dataset(store, user="bob@example.org", name="bob's")

    answers = [owner.request(method, f"/api/datasets/{uuid}{tail}", json=body) for uuid in (foreign.uuid, NOBODY)]
    nobody = httpx.request(method, f"{portal.url}/api/datasets/{foreign.uuid}{tail}", json=body, timeout=60)

    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].text.replace(foreign.uuid, NOBODY) == answers[1].text
    # What might be public is looked for; whoever shows nothing is told no more than others.
    assert nobody.status_code == (404 if method == "GET" and tail != "/jobs" else 401)
    with portal.store() as store:
        assert store.datasets.get(foreign.uuid) == foreign
