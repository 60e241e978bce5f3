"""A data set's status: what people do before the close, what jobs say after it."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scientistcloud.datasets.lifecycle import (
    CONVERSION,
    DELETION,
    EXTRACTION,
    IMPORT,
    Closed,
    ConversionWanted,
    Deleted,
    Event,
    RemovalDue,
    Reopened,
    Restored,
    SourcesChanged,
    UploadFailed,
    after,
    fulfilled,
    published,
    settled,
)
from scientistcloud.errors import AlreadyFinished, InvalidTransition
from scientistcloud.jobs.lifecycle import created
from scientistcloud.records import ConversionTarget, DatasetStatus, Job, JobError, JobStatus, Line, NewJob, Wanted

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
HEART = "11111111-1111-4111-8111-111111111111"
WANTED = Wanted(job_type=CONVERSION, idempotency_key="convert:1", parameters={})


def a_target(**fields: Any) -> ConversionTarget:
    given_: dict[str, Any] = {"uuid": HEART, "sensor": "auto", "status": DatasetStatus.UPLOADING}
    return ConversionTarget(**(given_ | fields))


def a_job(status: JobStatus, job_type: str = CONVERSION, key: str | None = None) -> Job:
    new = NewJob(
        job_id=str(uuid.UUID(int=1)), dataset_uuid=HEART, job_type=job_type, parameters={}, idempotency_key=key
    )
    error = JobError(type="X", message="it is no TIFF") if status is JobStatus.FAILED else None
    return replace(created(new, seq=1, line_free=True, now=NOON), status=status, error=error)


_TYPES = st.sampled_from([CONVERSION, IMPORT, EXTRACTION, "plugin_type"])
_KEYS = st.sampled_from([None, "convert:1", "convert:2"])
_LINES = st.builds(
    Line,
    running=st.none() | st.builds(a_job, st.just(JobStatus.RUNNING), _TYPES, _KEYS),
    head=st.none() | st.builds(a_job, st.just(JobStatus.PENDING), _TYPES, _KEYS),
    last=st.none()
    | st.builds(
        a_job, st.sampled_from([JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED]), _TYPES, _KEYS
    ),
)
_TARGETS = st.builds(
    ConversionTarget,
    uuid=st.just(HEART),
    sensor=st.just("auto"),
    status=st.sampled_from(list(DatasetStatus)),
    error=st.none() | st.just("it broke"),
    forms=st.sampled_from([(), ({"path": "converted.ome.zarr"},)]),
    revision=st.integers(0, 3),
    wanted=st.none() | st.just(WANTED),
    token=st.integers(0, 3),
    version=st.integers(0, 3),
    closed_at=st.none() | st.just(NOON),
)
_EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Closed, st.none() | st.just(WANTED), st.just(NOON)),
    st.just(Reopened()),
    st.builds(UploadFailed, st.just("the connection broke")),
    st.builds(ConversionWanted, st.just(WANTED)),
)


# -- what people do ------------------------------------------------------------------------------


@given(target=_TARGETS, event=_EVENTS)
def test_an_event_is_refused_with_the_uuid_or_leaves_the_record_in_order(
    target: ConversionTarget, event: Event
) -> None:
    try:
        now = after(target, event)
    except InvalidTransition:
        with pytest.raises(InvalidTransition, match=HEART):
            after(target, event)
        return

    assert (now.uuid, now.sensor, now.forms, now.token, now.version) == (
        target.uuid,
        target.sensor,
        target.forms,
        target.token,
        target.version,
    )
    assert now.revision - target.revision == isinstance(event, Closed)
    if now.status is DatasetStatus.CONVERSION_QUEUED and now.status is not target.status:
        assert now.wanted is not None


@given(target=_TARGETS)
def test_a_data_set_is_closed_once(target: ConversionTarget) -> None:
    if target.closed_at is not None:
        with pytest.raises(AlreadyFinished, match=HEART):
            after(target, Closed(WANTED, NOON))
        return

    closed = after(target, Closed(WANTED, NOON))

    assert (closed.status, closed.closed_at, closed.wanted) == (DatasetStatus.CONVERSION_QUEUED, NOON, WANTED)
    with pytest.raises(AlreadyFinished):
        after(closed, Closed(WANTED, NOON))


def test_a_data_set_closed_without_a_conversion_is_done() -> None:
    assert after(a_target(), Closed(None, NOON)).status is DatasetStatus.DONE


def test_files_can_be_added_after_reopening_but_not_while_a_job_works() -> None:
    closed = after(a_target(), Closed(WANTED, NOON))

    reopened = after(closed, Reopened())

    assert (reopened.status, reopened.closed_at, reopened.wanted) == (DatasetStatus.UPLOADING, None, None)
    with pytest.raises(InvalidTransition, match="cancel its job"):
        after(replace(closed, status=DatasetStatus.CONVERTING), Reopened())


# -- what follows from the jobs ------------------------------------------------------------------


@given(target=_TARGETS, line=_LINES)
def test_settling_twice_is_settling_once(target: ConversionTarget, line: Line) -> None:
    once = settled(target, line)

    assert settled(once, line) == once


@given(target=_TARGETS, line=_LINES)
def test_settling_writes_status_error_and_promise_alone(target: ConversionTarget, line: Line) -> None:
    now = settled(target, line)

    assert replace(now, status=target.status, error=target.error, wanted=target.wanted) == target


@given(one=_TARGETS, other=_TARGETS, line=_LINES)
def test_after_the_close_the_status_follows_from_the_jobs_whatever_it_was(
    one: ConversionTarget, other: ConversionTarget, line: Line
) -> None:
    one = replace(one, closed_at=NOON)
    other = replace(one, status=other.status, error=other.error)
    deciding = line.running or line.head or (None if one.wanted else line.last)
    if deciding is None or deciding.job_type == "plugin_type":
        return

    assert settled(one, line).status == settled(other, line).status


@pytest.mark.parametrize(
    ("job_type", "status", "expected"),
    [
        (CONVERSION, JobStatus.RUNNING, DatasetStatus.CONVERTING),
        (CONVERSION, JobStatus.PENDING, DatasetStatus.CONVERSION_QUEUED),
        (CONVERSION, JobStatus.COMPLETED, DatasetStatus.DONE),
        (CONVERSION, JobStatus.FAILED, DatasetStatus.CONVERSION_ERROR),
        (CONVERSION, JobStatus.CANCELLED, DatasetStatus.CANCELLED),
        (IMPORT, JobStatus.RUNNING, DatasetStatus.UPLOADING),
        (IMPORT, JobStatus.PENDING, DatasetStatus.UPLOAD_QUEUED),
        (IMPORT, JobStatus.FAILED, DatasetStatus.UPLOAD_ERROR),
        (EXTRACTION, JobStatus.RUNNING, DatasetStatus.UNZIPPING),
        (EXTRACTION, JobStatus.PENDING, DatasetStatus.UPLOAD_QUEUED),
        (EXTRACTION, JobStatus.FAILED, DatasetStatus.UNZIP_ERROR),
    ],
)
def test_each_job_gives_its_data_set_the_status_of_the_table(
    job_type: str, status: JobStatus, expected: DatasetStatus
) -> None:
    job = a_job(status, job_type)
    match status:
        case JobStatus.RUNNING:
            line = Line(running=job)
        case JobStatus.PENDING:
            line = Line(head=job)
        case _:
            line = Line(last=job)

    now = settled(a_target(closed_at=NOON, status=DatasetStatus.CONVERSION_QUEUED), line)

    assert now.status is expected
    assert now.error == ("it is no TIFF" if status is JobStatus.FAILED else None)


def test_a_cancelled_conversion_of_what_has_a_form_leaves_it_done() -> None:
    target = a_target(closed_at=NOON, forms=({"path": "x"},), status=DatasetStatus.CONVERTING)

    assert settled(target, Line(last=a_job(JobStatus.CANCELLED))).status is DatasetStatus.DONE


def test_a_failed_conversion_keeps_the_older_form() -> None:
    target = a_target(closed_at=NOON, forms=({"path": "x"},))

    now = settled(target, Line(last=a_job(JobStatus.FAILED)))

    assert (now.status, now.forms) == (DatasetStatus.CONVERSION_ERROR, ({"path": "x"},))


def test_a_promise_is_kept_until_its_job_is_found() -> None:
    target = after(a_target(), Closed(WANTED, NOON))

    assert settled(target, Line(last=a_job(JobStatus.COMPLETED, key="older"))).wanted == WANTED
    found = settled(target, Line(head=a_job(JobStatus.PENDING, key=WANTED.idempotency_key)))
    assert (found.wanted, found.status) == (None, DatasetStatus.CONVERSION_QUEUED)
    assert found == fulfilled(target)


def test_a_data_set_that_is_open_for_files_stays_open() -> None:
    target = a_target(status=DatasetStatus.UPLOADING)

    assert settled(target, Line(last=a_job(JobStatus.COMPLETED))) == target


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_a_data_set_opened_again_while_its_conversion_waited_is_open_when_that_has_ended(status: JobStatus) -> None:
    reopened = after(after(a_target(), Closed(WANTED, NOON)), Reopened())
    working = settled(reopened, Line(running=a_job(JobStatus.RUNNING)))
    assert working.status is DatasetStatus.CONVERTING

    now = settled(working, Line(last=a_job(status)))

    assert now == reopened
    assert settled(reopened, Line(head=a_job(JobStatus.PENDING))) == reopened


def test_a_publication_adds_a_form_and_the_sensor_but_no_status() -> None:
    target = a_target(status=DatasetStatus.CONVERTING)

    now = published(target, form={"path": "x"}, sensor="TIFF")

    assert (now.forms, now.sensor, now.status) == (({"path": "x"},), "TIFF", DatasetStatus.CONVERTING)


def test_the_keywords_of_a_form_stand_beside_it_where_they_are_searched() -> None:
    form = {"path": "x", "keywords": "Zeiss"}

    now = published(a_target(), form=form, sensor="TIFF")

    assert (now.forms, now.keywords) == (({"path": "x"},), "Zeiss")
    assert form["keywords"], "the worker's own record was changed"
    assert published(now, form={"path": "y"}, sensor="TIFF").keywords == ""


def test_times_do_not_matter_to_what_follows_from_the_jobs() -> None:
    target = a_target(closed_at=NOON + timedelta(days=1))

    assert settled(target, Line(last=a_job(JobStatus.COMPLETED))).status is DatasetStatus.DONE


# -- deleted -------------------------------------------------------------------------------------

REMOVAL = Wanted(job_type=DELETION, idempotency_key="delete:1", parameters={})


@pytest.mark.parametrize("status", DatasetStatus)
def test_what_was_deleted_and_had_back_is_as_it_was(status: DatasetStatus) -> None:
    target = a_target(status=status, closed_at=NOON)

    assert after(after(target, Deleted(NOON)), Restored()) == target
    assert after(target, Restored()) == target


@pytest.mark.parametrize(("forms", "status"), [((), DatasetStatus.CANCELLED), (({},), DatasetStatus.DONE)])
def test_a_job_that_was_promised_and_not_created_is_called_off_by_a_deletion(
    forms: tuple[dict[str, Any], ...], status: DatasetStatus
) -> None:
    target = a_target(status=DatasetStatus.CONVERSION_QUEUED, closed_at=NOON, wanted=WANTED, forms=forms)

    deleted = after(target, Deleted(NOON))

    assert (deleted.wanted, deleted.status, deleted.deleted_at) == (None, status, NOON)


def test_the_moment_of_a_deletion_is_that_of_the_first_one() -> None:
    deleted = after(a_target(), Deleted(NOON))

    assert after(deleted, Deleted(NOON + timedelta(days=1))) == deleted


def test_only_what_was_deleted_is_removed_and_then_nothing_brings_it_back() -> None:
    with pytest.raises(InvalidTransition, match="not deleted"):
        after(a_target(), RemovalDue(REMOVAL))

    doomed = after(after(a_target(), Deleted(NOON)), RemovalDue(REMOVAL))

    assert settled(doomed, Line()) == doomed
    with pytest.raises(InvalidTransition, match="being removed"):
        after(doomed, Restored())


# -- sources that other jobs bring ---------------------------------------------------------------

THEN = {"job_type": CONVERSION, "idempotency_key": "convert:2", "parameters": {"input_path": "x"}}


def brought(job_type: str, then: object) -> Job:
    return replace(a_job(JobStatus.COMPLETED, job_type), result={"files": 3, "then": then})


@pytest.mark.parametrize("job_type", [IMPORT, EXTRACTION])
def test_the_end_of_what_brings_sources_promises_the_job_that_follows(job_type: str) -> None:
    target = a_target(status=DatasetStatus.UNZIPPING, closed_at=NOON)

    now = settled(target, Line(last=brought(job_type, THEN)))

    assert now.status is DatasetStatus.CONVERSION_QUEUED
    assert now.wanted == Wanted(job_type=CONVERSION, idempotency_key="convert:2", parameters={"input_path": "x"})
    assert settled(now, Line(last=brought(job_type, THEN))) == now


def test_an_archive_that_was_imported_waits_to_be_unpacked() -> None:
    target = a_target(status=DatasetStatus.UPLOADING, closed_at=NOON)

    now = settled(target, Line(last=brought(IMPORT, THEN | {"job_type": EXTRACTION})))

    assert now.status is DatasetStatus.UPLOAD_QUEUED
    assert now.wanted is not None


def test_the_promise_is_fulfilled_by_the_job_of_its_key_and_made_once() -> None:
    target = settled(a_target(status=DatasetStatus.UNZIPPING, closed_at=NOON), Line(last=brought(EXTRACTION, THEN)))

    waiting = settled(target, Line(head=a_job(JobStatus.PENDING, key="convert:2"), last=brought(EXTRACTION, THEN)))
    ended = settled(waiting, Line(last=a_job(JobStatus.FAILED, key="convert:2")))

    assert (waiting.status, waiting.wanted) == (DatasetStatus.CONVERSION_QUEUED, None)
    assert (ended.status, ended.wanted) == (DatasetStatus.CONVERSION_ERROR, None)


@pytest.mark.parametrize("then", [None, {}, "x", THEN | {"job_type": DELETION}, THEN | {"idempotency_key": 3}])
def test_a_result_that_names_no_job_to_follow_is_the_end(then: object) -> None:
    target = a_target(status=DatasetStatus.UNZIPPING, closed_at=NOON)

    now = settled(target, Line(last=brought(EXTRACTION, then)))

    assert (now.status, now.wanted) == (DatasetStatus.DONE, None)


def test_a_conversions_result_leads_nowhere() -> None:
    target = a_target(status=DatasetStatus.CONVERTING, closed_at=NOON)

    assert settled(target, Line(last=brought(CONVERSION, THEN))).status is DatasetStatus.DONE


def test_a_data_set_that_was_opened_meanwhile_stays_open() -> None:
    assert settled(a_target(), Line(last=brought(EXTRACTION, THEN))) == a_target()


# -- sources that stay where they are ------------------------------------------------------------


def test_a_change_of_the_sources_is_noticed_until_a_new_form_is_made_of_them() -> None:
    target = a_target(status=DatasetStatus.DONE, closed_at=NOON, revision=1, place="/beamline/scan")

    noticed = after(target, SourcesChanged("a.tif changed", None))
    converted = published(noticed, form={"path": "x"}, sensor=None)

    assert (noticed.notice, noticed.revision, noticed.status) == ("a.tif changed", 2, DatasetStatus.DONE)
    assert converted.notice is None


def test_a_rule_converts_what_changed() -> None:
    target = a_target(status=DatasetStatus.DONE, closed_at=NOON, revision=1, place="/beamline/scan")

    changed = after(target, SourcesChanged("a.tif changed", WANTED))

    assert (changed.status, changed.wanted) == (DatasetStatus.CONVERSION_QUEUED, WANTED)


def test_a_registered_data_set_is_not_opened_for_uploads() -> None:
    with pytest.raises(InvalidTransition, match="/beamline/scan"):
        after(a_target(status=DatasetStatus.DONE, closed_at=NOON, place="/beamline/scan"), Reopened())
