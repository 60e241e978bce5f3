"""Source files that a job brings appear all at once, whatever dies, and only with the token of the last attempt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_local_forms import CRASHING, HEART, Forms, a_target

from scientistcloud.errors import InvalidParameters, LeaseLost
from scientistcloud.storage import folders

ARRIVE = f"""place = forms._folder.dataset("{HEART}")
        forms.arrive(
            "{HEART}", job_id="b", token=2, outcome={{}}, at=AT,
            files=place.kept("b") / "files", listing=place.kept("b") / "list",
        )"""


@pytest.fixture
def forms(tmp_path: Path) -> Forms:
    return Forms(tmp_path)


def begun(forms: Forms, *, job_id: str = "b", token: int = 2) -> Path:
    """An attempt that has fetched two files into what it keeps; that folder."""
    assert forms.begin(HEART, job_id=job_id, token=token) is not None
    kept = forms.kept(HEART, job_id=job_id)
    (kept / "files" / "deep").mkdir(parents=True)
    (kept / "files" / "a").write_text(job_id)
    (kept / "files" / "deep" / "b").write_text(job_id)
    (kept / "list").write_text("the list")
    return kept


def arrive(forms: Forms, kept: Path, *, job_id: str = "b", token: int = 2, at: str = "") -> None:
    forms.arrive(
        HEART,
        job_id=job_id,
        token=token,
        files=kept / "files",
        at=at,
        listing=kept / "list",
        outcome={"result": {"by": job_id}},
    )


def sources(forms: Forms) -> dict[str, str]:
    source = forms.place.source
    return {str(path.relative_to(source)): path.read_text() for path in source.rglob("*") if path.is_file()}


def test_files_and_the_list_of_them_appear_together(forms: Forms) -> None:
    arrive(forms, begun(forms))

    assert sources(forms) == {"a": "b", "deep/b": "b"}
    assert forms.listing(HEART, token=2).read_text() == "the list"
    known = forms.arrived(HEART)
    assert known is not None
    assert (known["job_id"], known["token"], known["outcome"]) == ("b", 2, {"result": {"by": "b"}})


def test_many_files_are_written_down_at_once(forms: Forms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_SYNCED_ONE_BY_ONE", 0)
    monkeypatch.setattr(folders, "sync_tree", lambda _path: pytest.fail("one by one"))

    arrive(forms, begun(forms))

    assert sources(forms) == {"a": "b", "deep/b": "b"}


def test_an_archives_files_appear_beside_it(forms: Forms) -> None:
    forms.place.source.mkdir(parents=True)
    (forms.place.source / "scan.zip").write_text("zip")

    arrive(forms, begun(forms), at="scan")

    assert sources(forms) == {"scan.zip": "zip", "scan/a": "b", "scan/deep/b": "b"}


def test_an_attempt_that_was_overtaken_brings_nothing(forms: Forms) -> None:
    kept = begun(forms)
    forms.begin(HEART, job_id="b", token=3)

    with pytest.raises(LeaseLost):
        arrive(forms, kept)

    assert not forms.place.source.exists()
    assert (kept / "files" / "a").exists()


def test_bringing_twice_is_harmless_and_the_next_attempt_knows_of_it(forms: Forms) -> None:
    kept = begun(forms)
    arrive(forms, kept)
    arrive(forms, kept)

    assert forms.begin(HEART, job_id="b", token=3) is None
    assert forms.begin(HEART, job_id="c", token=4) is not None


def test_files_that_are_there_are_not_written_over(forms: Forms) -> None:
    forms.place.source.mkdir(parents=True)
    (forms.place.source / "mine").write_text("mine")

    with pytest.raises(InvalidParameters, match="already"):
        arrive(forms, begun(forms))

    assert sources(forms) == {"mine": "mine"}


def test_what_was_not_written_does_not_arrive(forms: Forms) -> None:
    kept = begun(forms)
    (kept / "list").unlink()

    with pytest.raises(InvalidParameters, match="did not write it"):
        arrive(forms, kept)

    assert forms.arrived(HEART) is None


@pytest.mark.parametrize("one_by_one", [0, 1000])
def test_a_link_among_the_files_is_refused(forms: Forms, monkeypatch: pytest.MonkeyPatch, one_by_one: int) -> None:
    monkeypatch.setattr(folders, "_SYNCED_ONE_BY_ONE", one_by_one)
    kept = begun(forms)
    (kept / "files" / "way").symlink_to("/etc")

    with pytest.raises(InvalidParameters, match="neither file nor folder"):
        arrive(forms, kept)

    assert not forms.place.source.exists()


def test_a_form_that_is_published_later_leaves_what_was_brought(forms: Forms) -> None:
    arrive(forms, begun(forms))

    forms.convert("new", job_id="c", token=3)

    assert (forms.shown(), sources(forms)) == ("new", {"a": "b", "deep/b": "b"})
    known = forms.arrived(HEART)
    assert known is not None
    assert known["job_id"] == "b"


def test_what_a_job_kept_goes_after_a_week_without_a_byte(forms: Forms) -> None:
    kept = begun(forms)
    os.utime(kept, (forms.wall, forms.wall))
    forms.wall += 6 * 86400
    forms.heal(a_target(token=2))
    assert kept.exists()
    assert HEART in set(forms.untidy())

    forms.wall += 2 * 86400
    forms.heal(a_target(token=2))

    assert not kept.exists()


@pytest.mark.parametrize("at", ["", "scan"])
def test_a_crash_at_any_step_of_an_arrival_heals_to_all_or_nothing(tmp_path: Path, at: str) -> None:
    every = {}
    for step in range(1, 41):
        forms = every[step] = Forms(tmp_path / f"{step}")
        if at:
            forms.place.source.mkdir(parents=True)
            (forms.place.source / "scan.zip").write_text("zip")
        begun(forms)
    orders = [(str(forms.place.root.parents[1]), step) for step, forms in every.items()]
    done = subprocess.run(
        [sys.executable, "-c", CRASHING.replace("ACT", ARRIVE.replace("AT,", f"{at!r},"))],
        input=json.dumps(orders), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    died = json.loads(done.stdout)
    assert died.count(True) > 8
    assert died[-1] is False, "there are more steps than were tried"

    before = {"scan.zip": "zip"} if at else {}
    prefix = f"{at}/" if at else ""
    whole = {**before, f"{prefix}a": "b", f"{prefix}deep/b": "b"}
    seen = set()
    for forms, dead in zip(every.values(), died, strict=True):
        if dead:
            again = forms.begin(HEART, job_id="b", token=3)  # the next attempt of the same job
            assert sources(forms) == (whole if again is None else before)
            assert forms.listing(HEART, token=2).exists() is (again is None)
            assert (forms.kept(HEART, job_id="b") / "files" / "a").exists() is (again is not None)
            seen.add(again is None)
    assert seen == {True, False}
