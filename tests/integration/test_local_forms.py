"""Forms appear whole or not at all, whatever dies, and however many want to."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scientistcloud.errors import InvalidParameters, LeaseLost, Unavailable
from scientistcloud.layout import CONVERTED, PREVIEW, QUICKLOOK, DataFolder
from scientistcloud.records import ConversionTarget, DatasetStatus
from scientistcloud.storage.local import LocalForms

HEART = "11111111-1111-4111-8111-111111111111"
HOUR = 3600.0


class Forms(LocalForms):
    """With a wall clock that the test moves, and short words for what tests do often."""

    def __init__(self, root: Path) -> None:
        self.wall = 1_800_000_000.0
        super().__init__(DataFolder(root), wait_seconds=0.2, now=lambda: self.wall)
        self.place = DataFolder(root).dataset(HEART)

    def convert(self, text: str, *, job_id: str, token: int, names: tuple[str, ...] = (CONVERTED, PREVIEW)) -> None:
        """One attempt from begin to publication."""
        output = self.begin(HEART, job_id=job_id, token=token)
        assert output is not None
        write_form(output, text, names)
        self.publish(HEART, job_id=job_id, token=token, names=names, outcome={"result": {"text": text}})

    def shown(self) -> str | None:
        return shown(self.place.root)


def write_form(output: Path, text: str, names: tuple[str, ...] = (CONVERTED, PREVIEW)) -> None:
    for name in names:
        if name == PREVIEW:
            (output / name).write_text(text)
        else:
            (output / name / "0").mkdir(parents=True)
            (output / name / "zarr.json").write_text(text)
            (output / name / "0" / "zarr.json").write_text(text)


def shown(root: Path) -> str | None:
    """What a reader finds in place: the text of which all of it is, None where nothing is; fails on a mixture."""
    form = root / CONVERTED
    if not form.exists():
        return None
    texts = {path.read_text() for path in (form / "zarr.json", form / "0" / "zarr.json")}
    assert len(texts) == 1, f"a mixture of {texts} is visible"
    return texts.pop()


def a_target(*, token: int, form: int | None = None) -> ConversionTarget:
    return ConversionTarget(
        uuid=HEART,
        sensor="TIFF",
        status=DatasetStatus.DONE,
        token=token,
        forms=() if form is None else ({"path": CONVERTED, "token": form},),
    )


@pytest.fixture
def forms(tmp_path: Path) -> Forms:
    return Forms(tmp_path)


def test_a_form_and_its_preview_appear_with_their_publication(forms: Forms) -> None:
    forms.convert("new", job_id="a", token=1)

    assert forms.shown() == "new"
    assert forms.place.preview.read_text() == "new"
    published = forms.published(HEART)
    assert published is not None
    assert (published["job_id"], published["token"]) == ("a", 1)
    assert published["outcome"] == {"result": {"text": "new"}}
    assert not forms.place.partial(1).exists()


def test_the_form_before_lies_aside_for_an_hour(forms: Forms) -> None:
    forms.convert("old", job_id="a", token=1)
    forms.convert("new", job_id="b", token=2)
    forms.heal(a_target(token=2, form=2))

    assert shown(forms.place.aside(2)) == "old"

    forms.wall += HOUR + 1
    forms.heal(a_target(token=2, form=2))

    assert forms.shown() == "new"
    assert not forms.place.aside(2).exists()


def test_what_lies_aside_stays_while_the_record_names_it(forms: Forms) -> None:
    forms.convert("old", job_id="a", token=1)
    forms.convert("new", job_id="b", token=2)

    forms.wall += 2 * HOUR
    forms.begin(HEART, job_id="c", token=3)  # so that no form may be moved back
    forms.heal(a_target(token=2, form=1))

    assert shown(forms.place.aside(2)) == "old"


def test_an_attempt_with_an_older_token_is_refused(forms: Forms) -> None:
    forms.begin(HEART, job_id="a", token=2)

    with pytest.raises(LeaseLost):
        forms.begin(HEART, job_id="a", token=1)


def test_an_attempt_that_was_overtaken_cannot_publish(forms: Forms) -> None:
    output = forms.begin(HEART, job_id="a", token=1)
    assert output is not None
    write_form(output, "late")
    forms.begin(HEART, job_id="b", token=2)

    with pytest.raises(LeaseLost):
        forms.publish(HEART, job_id="a", token=1, names=[CONVERTED], outcome={})

    assert forms.shown() is None


def test_an_attempt_whose_job_was_ended_by_others_cannot_publish(forms: Forms) -> None:
    output = forms.begin(HEART, job_id="a", token=1)
    assert output is not None
    write_form(output, "late")
    forms.heal(a_target(token=2))  # the reaper drew a token for the end, care gives it to the guard

    with pytest.raises(LeaseLost):
        forms.publish(HEART, job_id="a", token=1, names=[CONVERTED], outcome={})


def test_a_next_attempt_empties_partial_folders_its_own_number_too(forms: Forms) -> None:
    first = forms.begin(HEART, job_id="a", token=1)
    assert first is not None
    (first / "half").write_text("…")
    again = forms.begin(HEART, job_id="a", token=1)
    assert again == first
    assert list(first.iterdir()) == []

    second = forms.begin(HEART, job_id="a", token=2)

    assert second is not None
    assert list(second.iterdir()) == []
    assert not first.exists()


def test_an_attempt_that_finds_its_own_job_published_has_nothing_to_write(forms: Forms) -> None:
    forms.convert("new", job_id="a", token=1)

    assert forms.begin(HEART, job_id="a", token=2) is None
    with pytest.raises(LeaseLost):
        forms.begin(HEART, job_id="a", token=1)


def test_publishing_twice_is_harmless(forms: Forms) -> None:
    forms.convert("new", job_id="a", token=1)
    forms.publish(HEART, job_id="a", token=1, names=[CONVERTED, PREVIEW], outcome={})

    assert forms.shown() == "new"
    assert not forms.place.aside(1).exists()


def test_names_that_the_next_form_lacks_go_aside_with_the_old_one(forms: Forms) -> None:
    forms.convert("old", job_id="a", token=1)
    forms.convert("new", job_id="b", token=2, names=(CONVERTED,))

    assert not forms.place.preview.exists()
    assert (forms.place.aside(2) / PREVIEW).read_text() == "old"


@pytest.mark.parametrize("name", ["source", ".guard", "partial.1", "aside.1", "../x", "", "a/b"])
def test_names_that_are_not_a_tasks_to_give_are_refused(forms: Forms, name: str) -> None:
    forms.begin(HEART, job_id="a", token=1)

    with pytest.raises(InvalidParameters):
        forms.publish(HEART, job_id="a", token=1, names=[name], outcome={})


def test_a_promised_name_that_was_not_written_is_named(forms: Forms) -> None:
    forms.convert("old", job_id="a", token=1)
    forms.begin(HEART, job_id="b", token=2)

    with pytest.raises(InvalidParameters, match=CONVERTED):
        forms.publish(HEART, job_id="b", token=2, names=[CONVERTED], outcome={})

    assert forms.shown() == "old"


def test_a_link_in_the_output_is_refused(forms: Forms) -> None:
    output = forms.begin(HEART, job_id="a", token=1)
    assert output is not None
    write_form(output, "new")
    (output / CONVERTED / "secret").symlink_to("/etc/passwd")

    with pytest.raises(InvalidParameters, match="secret"):
        forms.publish(HEART, job_id="a", token=1, names=[CONVERTED], outcome={})


def test_a_form_that_the_record_does_not_name_gives_way_to_the_one_it_names(forms: Forms) -> None:
    forms.convert("old", job_id="a", token=1)
    forms.convert("of a job that failed in the end", job_id="b", token=2)

    forms.heal(a_target(token=3, form=1))

    assert forms.shown() == "old"
    assert forms.place.preview.read_text() == "old"
    published = forms.published(HEART)
    assert published is not None
    assert published["token"] == 1


def test_a_form_whose_record_names_none_goes_aside(forms: Forms) -> None:
    forms.convert("of a job that failed in the end", job_id="a", token=1)

    forms.heal(a_target(token=2))

    assert forms.shown() is None
    assert forms.published(HEART) is None


def test_nothing_is_moved_back_under_a_later_attempt(forms: Forms) -> None:
    forms.convert("old", job_id="a", token=1)
    forms.convert("new, its record not written yet", job_id="b", token=2)

    forms.heal(a_target(token=1, form=1))

    assert forms.shown() == "new, its record not written yet"


def test_a_form_that_lies_nowhere_takes_nothing_away(forms: Forms) -> None:
    forms.convert("new", job_id="b", token=2)

    forms.heal(a_target(token=2, form=1))

    assert forms.shown() == "new"


def test_rubbish_of_a_crash_is_found_and_removed(forms: Forms) -> None:
    forms.convert("new", job_id="a", token=2)
    (forms.place.root / ".rubbish.x").mkdir()
    (forms.place.partial(1)).mkdir()
    assert list(forms.untidy()) == [HEART]

    forms.heal(a_target(token=2, form=2))

    assert list(forms.untidy()) == []
    assert forms.shown() == "new"


def test_a_held_guard_is_unavailable_and_names_its_holder(forms: Forms) -> None:
    forms.place.root.mkdir(parents=True)
    with forms.place.guard.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        with pytest.raises(Unavailable, match=rf"process {os.getpid()} \("):
            forms.begin(HEART, job_id="a", token=1)


# -- crashes ---------------------------------------------------------------------------------------

# For each [root, step]: a process that dies by SIGKILL before its step-th call that changes the disk.
CRASHING = """
import json, os, signal, sys
from pathlib import Path
from scientistcloud.layout import DataFolder
from scientistcloud.records import ConversionTarget, DatasetStatus
from scientistcloud.storage.local import LocalForms

count = 0

def dies(real):
    def call(*args, **keywords):
        global count
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **keywords)
    return call

died = []
for root, step in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        for name in ("rename", "mkdir", "fsync", "unlink", "rmdir"):
            setattr(os, name, dies(getattr(os, name)))
        forms = LocalForms(DataFolder(Path(root)))
        ACT
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    died.append(status != 0)
print(json.dumps(died))
"""
PUBLISH = f"""forms.publish("{HEART}", job_id="b", token=2, names=["{CONVERTED}", "{PREVIEW}"], outcome={{}})"""
HEAL = f"""forms.heal(
            ConversionTarget(
                uuid="{HEART}", sensor="TIFF", status=DatasetStatus.DONE, token=3, forms=({{"token": 1}},)
            )
        )"""


def crashes(tmp_path: Path, act: str, *, older_form: bool, published: bool = False) -> Iterator[Forms]:
    """A data set for each point at which `act` can be cut short."""
    every = {}
    for step in range(1, 41):
        forms = every[step] = Forms(tmp_path / f"{step}")
        if older_form:
            forms.convert("old", job_id="a", token=1)
        output = forms.begin(HEART, job_id="b", token=2)
        assert output is not None
        write_form(output, "new")
        if published:
            forms.publish(HEART, job_id="b", token=2, names=[CONVERTED, PREVIEW], outcome={})
    orders = [(str(forms.place.root.parents[1]), step) for step, forms in every.items()]
    done = subprocess.run(
        [sys.executable, "-c", CRASHING.replace("ACT", act)],
        input=json.dumps(orders), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    died = json.loads(done.stdout)
    assert died.count(True) > 10
    assert died[-1] is False, "there are more steps than were tried"
    for forms, dead in zip(every.values(), died, strict=True):
        if dead:
            yield forms


@pytest.mark.parametrize("older_form", [False, True])
def test_a_crash_at_any_step_of_a_publication_heals_to_a_whole_form(tmp_path: Path, older_form: bool) -> None:
    seen: set[str | None] = set()
    for forms in crashes(tmp_path, PUBLISH, older_form=older_form):
        assert forms.shown() in ("new", "old", None)  # None: between two renames

        output = forms.begin(HEART, job_id="b", token=3)  # the next attempt of the same job

        published = forms.published(HEART)
        if output is None:
            assert published is not None
            assert (published["job_id"], forms.shown(), forms.place.preview.read_text()) == ("b", "new", "new")
        else:
            assert forms.shown() == ("old" if older_form else None)
            assert list(output.iterdir()) == []
        seen.add(forms.shown())
    assert seen == {"new", "old" if older_form else None}


def test_care_heals_a_crashed_publication_to_what_the_record_names(tmp_path: Path) -> None:
    for forms in crashes(tmp_path, PUBLISH, older_form=True):
        expect_the_old_form_after_healing(forms)


def test_a_crash_at_any_step_of_healing_heals(tmp_path: Path) -> None:
    for forms in crashes(tmp_path, HEAL, older_form=True, published=True):
        expect_the_old_form_after_healing(forms)


def expect_the_old_form_after_healing(forms: Forms) -> None:
    target = a_target(token=3, form=1)  # the job ended otherwise than completed

    forms.heal(target)

    assert forms.shown() == "old"
    assert forms.place.preview.read_text() == "old"
    forms.wall += 2 * HOUR
    forms.heal(target)
    assert list(forms.untidy()) == []


def begin_with_a_quick_look(forms: Forms, *, token: int) -> None:
    output = forms.begin(HEART, job_id=str(token), token=token)
    assert output is not None
    (output / QUICKLOOK).mkdir()
    (output / QUICKLOOK / "zarr.json").write_text(str(token))
    forms.show(HEART, token=token)


def test_a_quick_look_is_gone_with_the_attempt_that_made_it(forms: Forms) -> None:
    quick = forms.place.quicklook
    begin_with_a_quick_look(forms, token=1)
    assert (quick / "zarr.json").read_text() == "1"

    begin_with_a_quick_look(forms, token=2)  # the first one died
    forms.abandon(HEART, token=1)  # and is told so late

    assert (quick / "zarr.json").read_text() == "2"
    with pytest.raises(LeaseLost):
        forms.show(HEART, token=1)

    forms.abandon(HEART, token=2)
    assert not quick.exists()

    begin_with_a_quick_look(forms, token=3)
    write_form(forms.place.partial(3), "whole")
    forms.publish(HEART, job_id="3", token=3, names=(CONVERTED, PREVIEW), outcome={})
    assert (quick.exists(), forms.shown()) == (False, "whole")

    begin_with_a_quick_look(forms, token=4)
    assert forms.begin(HEART, job_id="5", token=5) is not None
    assert not quick.exists()


def test_a_quick_look_that_a_dead_worker_left_is_removed_by_care(forms: Forms) -> None:
    begin_with_a_quick_look(forms, token=1)

    forms.heal(a_target(token=2))  # the job was given up, and its data set settled

    assert not forms.place.quicklook.exists()
