"""One attempt in a process of its own, with real processes: its limits, its end, and what it may say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from service_tasks import read_pid

from scientistcloud.errors import BrokenPlugin, Cancelled
from scientistcloud.layout import CONVERTED
from scientistcloud.records import JobError, Progress
from scientistcloud.service.joblog import JobLog
from scientistcloud.service.runner import Runner
from scientistcloud.tasks.contract import Outcome, Work

TASKS = ["service_tasks:Trial"]
GENEROUS_SECONDS = 60.0
MIB = 2**20


def eventually(what: Callable[[], object], said: str) -> None:
    until = time.monotonic() + GENEROUS_SECONDS
    while not what():
        assert time.monotonic() < until, f"never {said}"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def threads_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    runner = Runner(tasks=TASKS, silence_seconds=GENEROUS_SECONDS)
    runner.start()
    yield runner
    runner.stop()


class Attempts:
    """Runs attempts in a folder of their own."""

    def __init__(self, runner: Runner, root: Path) -> None:
        self.runner = runner
        self.log = root / "log"
        self.work = Work(
            job_id="job-1",
            dataset_uuid="heart",
            job_type="dataset_conversion",
            token=1,
            parameters={},
            source=root / "source",
            output=root / "output",
            memory_bytes=1024 * MIB,
            report=lambda _fraction, _step: None,
        )
        self.work.source.mkdir()
        self.work.output.mkdir()
        self.seen: list[Progress] = []
        self.raised: Exception | None = None

    def run(
        self,
        does: str,
        *,
        memory_bytes: int = 1024 * MIB,
        file_bytes: int | None = None,
        timeout_seconds: float | None = None,
        **parameters: object,
    ) -> Outcome | JobError:
        work = replace(
            self.work, parameters={"does": does, **parameters}, memory_bytes=memory_bytes, file_bytes=file_bytes
        )
        log = JobLog(self.log, limit_bytes=256 * 1024)
        try:
            return self.runner.run(work, log=log, timeout_seconds=timeout_seconds, watch=self._watch)
        finally:
            log.close()

    def start(self, does: str) -> threading.Thread:
        thread = threading.Thread(target=lambda: self.results.append(self.run(does)))
        self.results: list[Outcome | JobError] = []
        thread.start()
        return thread

    def _watch(self, progress: Progress) -> None:
        self.seen.append(progress)
        if self.raised is not None:
            raise self.raised

    @property
    def started(self) -> Path:
        return self.work.source.parent / f"started.{self.work.token}"


@pytest.fixture
def attempts(runner: Runner, tmp_path: Path) -> Attempts:
    return Attempts(runner, tmp_path)


def failed(result: Outcome | JobError) -> JobError:
    assert isinstance(result, JobError)
    return result


def test_an_attempt_writes_reports_and_says_what_it_made(attempts: Attempts) -> None:
    result = attempts.run("convert", seconds=0.5)

    assert result == Outcome(result={"pieces": 20}, publish=(CONVERTED,), form={"path": CONVERTED}, sensor="TIFF")
    assert len(list((attempts.work.output / CONVERTED).iterdir())) == 20
    assert any(0 < progress.fraction < 1 and "of 20" in progress.step for progress in attempts.seen)


def test_the_process_has_no_settings_a_folder_and_a_group_of_its_own(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIENTISTCLOUD_TOKEN", "secret")
    own = Runner(tasks=TASKS, silence_seconds=GENEROUS_SECONDS)
    attempts.runner = own
    try:
        result = attempts.run("report_nonsense")
    finally:
        own.stop()

    assert isinstance(result, Outcome)
    assert result.result == {"cwd": str(attempts.work.output), "settings": [], "group": True}
    assert attempts.seen[-1] == Progress(fraction=0.0, step="x" * 200)


def test_attempts_run_side_by_side(runner: Runner, tmp_path: Path) -> None:
    pair = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pair.append(Attempts(runner, tmp_path / name))
    threads = [attempts.start("hold") for attempts in pair]

    for attempts in pair:
        eventually(attempts.started.exists, "started")
    for attempts in pair:
        (attempts.work.source.parent / "go").touch()
    for thread in threads:
        thread.join(GENEROUS_SECONDS)

    assert all(isinstance(attempts.results[0], Outcome) for attempts in pair)


def test_the_template_has_one_thread_and_the_real_tasks_libraries(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from scientistcloud.tasks import registry\n"
        "from scientistcloud import plugins\n"
        "registry.load(); plugins.load_all(plugins.CONVERTERS)\n"
        "print(len(os.listdir('/proc/self/task')), 'sqlite3' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    if done.returncode and "BrokenPlugin" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.stdout.split() == ["1", "False"], done.stderr


def test_what_the_source_files_are_to_blame_for_is_permanent(attempts: Attempts) -> None:
    assert failed(attempts.run("read_damaged")) == JobError(
        type="UnreadableSource", message="scan_07.tif ends after 3 of 12 pages; upload it again", permanent=True
    )


def test_another_error_is_not_permanent_and_its_traceback_is_in_the_log(attempts: Attempts) -> None:
    error = failed(attempts.run("fail"))

    assert (error.type, error.permanent) == ("ConnectionError", False)
    assert "the file server hung up" in error.message
    assert "in fail\n" in attempts.log.read_text()


def test_a_full_disk_passes(attempts: Attempts) -> None:
    error = failed(attempts.run("fill_the_disk"))

    assert (error.type, error.permanent) == ("NoSpace", False)
    assert "free some space" in error.message


def test_a_signal_is_named(attempts: Attempts) -> None:
    assert failed(attempts.run("crash")).type == "KilledBySIGSEGV"


def test_a_process_that_ends_without_a_word_failed(attempts: Attempts) -> None:
    error = failed(attempts.run("exit"))

    assert error.type == "ProcessEnded"
    assert "status 3" in error.message


def test_a_time_out_ends_the_process_whatever_it_does(attempts: Attempts) -> None:
    error = failed(attempts.run("deaf", timeout_seconds=0.5))

    assert error.type == "TimeOut"
    assert not is_alive(read_pid(attempts.started))


def test_memory_that_grows_beyond_the_limit_ends_the_process(attempts: Attempts) -> None:
    error = failed(attempts.run("allocate", memory_bytes=200 * MIB))

    assert (error.type, error.permanent) == ("OutOfMemory", False)
    assert "may hold 200" in error.message


def test_memory_asked_for_at_once_is_refused_by_the_system(attempts: Attempts) -> None:
    assert failed(attempts.run("allocate_at_once", memory_bytes=200 * MIB)).type == "OutOfMemory"


def test_a_file_that_grows_beyond_the_limit_ends_the_process(attempts: Attempts) -> None:
    error = failed(attempts.run("write_much", file_bytes=8 * MIB))

    assert (error.type, error.permanent) == ("FileTooLarge", False)
    assert "more than 8 MiB; raise SLOT_FILE_BYTES" in error.message
    assert (attempts.work.output / "much").stat().st_size <= 8 * MIB


def test_a_file_within_the_limit_is_written(attempts: Attempts) -> None:
    assert isinstance(attempts.run("write_much", file_bytes=65 * MIB), Outcome)


def test_a_long_log_keeps_its_head_and_its_tail(attempts: Attempts) -> None:
    assert isinstance(attempts.run("print_much"), Outcome)

    log = attempts.log.read_bytes()
    assert len(log) < 300 * 1024
    assert log.startswith(b"the first line\n")
    assert log.endswith(b"\nthe last line\n")
    assert b"bytes are left out here" in log


def test_an_endless_log_does_not_keep_the_limits_from_being_looked_at(attempts: Attempts) -> None:
    assert failed(attempts.run("print_for_ever", timeout_seconds=1)).type == "TimeOut"
    assert attempts.log.stat().st_size < 300 * 1024


def test_a_log_that_cannot_be_written_is_no_reason_to_fail(attempts: Attempts) -> None:
    attempts.log = Path("/dev/full")

    assert isinstance(attempts.run("print_much"), Outcome)


@pytest.mark.parametrize("does", ["talk_much", "talk_nonsense"])
def test_what_no_task_says_is_an_error_and_nothing_more(attempts: Attempts, does: str) -> None:
    assert failed(attempts.run(does)).type == "GarbledOutcome"


@pytest.mark.parametrize("does", ["answer_much", "answer_no_json"])
def test_an_outcome_that_cannot_be_carried_is_a_permanent_error(attempts: Attempts, does: str) -> None:
    error = failed(attempts.run(does))

    assert error.permanent
    assert "outcome" in error.message


def test_what_the_watcher_raises_ends_the_process_and_what_it_started(attempts: Attempts) -> None:
    def cancel_when_started() -> None:
        eventually(attempts.started.exists, "started")
        attempts.raised = Cancelled("asked for")

    threading.Thread(target=cancel_when_started).start()
    with pytest.raises(Cancelled):
        attempts.run("with_children")

    assert not is_alive(read_pid(attempts.started))
    eventually(lambda: not is_alive(read_pid(attempts.started.with_name("beside"))), "ended what it had started")


def test_a_killed_template_takes_its_attempts_along_and_is_started_again(attempts: Attempts) -> None:
    own = Runner(tasks=TASKS, silence_seconds=GENEROUS_SECONDS)
    attempts.runner = own
    own.start()
    thread = attempts.start("with_children")
    eventually(attempts.started.exists, "started")
    child, beside = (read_pid(attempts.started.with_name(name)) for name in (attempts.started.name, "beside"))

    os.kill(parent_of(child), signal.SIGKILL)
    thread.join(GENEROUS_SECONDS)

    assert failed(attempts.results[0]).type == "TemplateLost"
    eventually(lambda: not is_alive(child) and not is_alive(beside), "ended")
    assert isinstance(attempts.run("report_nonsense"), Outcome)
    own.stop()


def test_an_end_is_not_missed_for_signs_of_life_that_nobody_read(attempts: Attempts) -> None:
    """The template closes with messages unread, and the system tells of that before it tells of the end."""
    own = Runner(tasks=TASKS, silence_seconds=GENEROUS_SECONDS)
    own._ping_seconds = 0.05
    attempts.runner = own
    thread = attempts.start("hold")
    eventually(attempts.started.exists, "started")
    child = read_pid(attempts.started)
    template = parent_of(child)
    os.kill(template, signal.SIGSTOP)
    (attempts.work.source.parent / "go").touch()
    eventually(lambda: not is_alive(child), "ended")
    count = len(attempts.seen)
    eventually(lambda: len(attempts.seen) > count + 5, "sent signs of life")

    os.kill(template, signal.SIGCONT)
    thread.join(GENEROUS_SECONDS)
    own.stop()

    assert isinstance(attempts.results[0], Outcome)


def test_a_task_that_does_not_load_is_named() -> None:
    with pytest.raises(BrokenPlugin, match="no_such_module"):
        Runner(tasks=["no_such_module:Task"], silence_seconds=1).start()


SERVICE = """
import sys, time
from pathlib import Path
from scientistcloud.service.joblog import JobLog
from scientistcloud.service.runner import Runner
from scientistcloud.tasks.contract import Work

root = Path(sys.argv[1])
sys.path.insert(0, sys.argv[2])
runner = Runner(tasks=["service_tasks:Trial"], silence_seconds=1.0)
work = Work(job_id="j", dataset_uuid="d", job_type="dataset_conversion", token=1,
            parameters={"does": "with_children"}, source=root / "source", output=root,
            memory_bytes=2**30, report=print)
print(runner.run(work, log=JobLog(root / "log", limit_bytes=2**20), watch=lambda _: None))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_no_process_outlives_its_service(tmp_path: Path, number: signal.Signals) -> None:
    """Killed, it takes them along at once; stopped, they end when it has been silent for a lease (here 1 s)."""
    service = subprocess.Popen([sys.executable, "-c", SERVICE, str(tmp_path), str(Path(__file__).parent)])
    try:
        eventually((tmp_path / "started.1").exists, "started")
        child, beside = read_pid(tmp_path / "started.1"), read_pid(tmp_path / "beside")
        template = parent_of(child)
        assert threads_of(template) == 1

        service.send_signal(number)

        eventually(lambda: not is_alive(child) and not is_alive(beside), "ended what the service had started")
        if number is signal.SIGKILL:
            eventually(lambda: not is_alive(template), "ended the template")
    finally:
        service.kill()
        service.wait()


def test_a_process_dies_with_its_template_even_while_the_service_hangs(tmp_path: Path) -> None:
    service = subprocess.Popen([sys.executable, "-c", SERVICE, str(tmp_path), str(Path(__file__).parent)])
    try:
        eventually((tmp_path / "started.1").exists, "started")
        child, beside = read_pid(tmp_path / "started.1"), read_pid(tmp_path / "beside")
        template = parent_of(child)
        service.send_signal(signal.SIGSTOP)

        os.kill(template, signal.SIGKILL)
        eventually(lambda: not is_alive(child), "ended the child")

        service.send_signal(signal.SIGCONT)
        eventually(lambda: not is_alive(beside), "ended what the child had started")
    finally:
        service.kill()
        service.wait()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
