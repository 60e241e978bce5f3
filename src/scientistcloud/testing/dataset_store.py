"""What every store of data sets does, as suites that an adapter's tests inherit and give the fixture `store`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scientistcloud.errors import InvalidTransition, LeaseLost, NotFound, Stale
from scientistcloud.ports import Store
from scientistcloud.records import Dataset, DatasetFile, DatasetStatus, Wanted

ADA, BOB = "ada@example.org", "bob@example.org"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
WANTED = Wanted(job_type="dataset_conversion", idempotency_key="convert:1", parameters={"sensor_type": "auto"})


def a_dataset(**fields: Any) -> Dataset:
    """A data set of Ada's, open for files, unless said otherwise."""
    given: dict[str, Any] = {
        "uuid": str(uuid.uuid4()),
        "user": ADA,
        "name": "frames",
        "sensor": "auto",
        "status": DatasetStatus.UPLOADING,
        "created_at": NOON,
        "updated_at": NOON,
    }
    return Dataset(**(given | fields))


def kept(store: Store, **fields: Any) -> Dataset:
    """A data set that the store has."""
    dataset = a_dataset(**fields)
    store.datasets.add(dataset)
    return dataset


def now_of(store: Store, dataset: Dataset) -> Dataset:
    """The record as it is now."""
    found = store.datasets.get(dataset.uuid)
    assert found is not None
    return found


class DatasetStoreContract:
    """The data sets with their people."""

    #: The shortest time that a record keeps.
    time_step = timedelta(microseconds=1)

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        raise NotImplementedError

    # -- one data set --------------------------------------------------------------------------

    def test_a_data_set_comes_back_as_it_was_added(self, store: Store) -> None:
        dataset = a_dataset(
            name="<script>🔬 Größe",
            error="it broke",
            size_bytes=2**43,
            forms=({"path": "converted.ome.zarr", "shape": [1, 2]},),
            tags=("heart", "β"),
            description="a line\nand another",
            public=True,
            closed_at=NOON + self.time_step,
            revision=2,
            wanted=WANTED,
            token=7,
            place="/beamline/7/scan ümläut",
            notice="scan_07.tif changed",
            keywords="Zeiss Axio\nMgB₂",
        )

        store.datasets.add(dataset)

        assert store.datasets.get(dataset.uuid) == dataset

    def test_there_is_no_data_set_of_another_uuid(self, store: Store) -> None:
        kept(store)

        assert store.datasets.get(str(uuid.uuid4())) is None

    def test_a_uuid_is_added_once(self, store: Store) -> None:
        dataset = kept(store)

        with pytest.raises(InvalidTransition, match=dataset.uuid):
            store.datasets.add(replace(dataset, name="another"))
        assert now_of(store, dataset).name == "frames"

    def test_an_update_writes_what_differs_and_raises_the_version(self, store: Store) -> None:
        before = kept(store, name="old", tags=("a",))

        after = store.datasets.update(before, replace(before, name="new", status=DatasetStatus.DONE))

        assert (after.name, after.status, after.tags) == ("new", DatasetStatus.DONE, ("a",))
        assert after.version > before.version
        assert now_of(store, before) == after

    def test_an_update_of_what_changed_meanwhile_is_refused(self, store: Store) -> None:
        before = kept(store)
        store.datasets.update(before, replace(before, name="theirs"))

        with pytest.raises(Stale, match=before.uuid):
            store.datasets.update(before, replace(before, name="mine"))
        assert now_of(store, before).name == "theirs"

    def test_an_update_of_nothing_is_not_found(self, store: Store) -> None:
        dataset = a_dataset()

        with pytest.raises(NotFound, match=dataset.uuid):
            store.datasets.update(dataset, replace(dataset, name="new"))

    def test_describing_writes_only_what_was_given(self, store: Store) -> None:
        dataset = kept(store, name="old", description="kept", tags=("a",))

        after = store.datasets.describe(dataset.uuid, name="new", tags=[])

        assert (after.name, after.description, after.tags, after.public) == ("new", "kept", (), False)

    def test_describing_does_not_undo_what_a_worker_wrote_meanwhile(self, store: Store) -> None:
        dataset = kept(store)
        target = store.targets.get(dataset.uuid)
        assert target is not None
        store.targets.update(target, replace(target, status=DatasetStatus.CONVERTING), token=3)

        after = store.datasets.describe(dataset.uuid, name="a new name typed on the page")

        assert (after.status, after.token) == (DatasetStatus.CONVERTING, 3)

    def test_what_is_not_there_cannot_be_described(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.datasets.describe(str(uuid.uuid4()), name="new")

    def test_a_data_set_that_is_removed_is_gone_with_its_files(self, store: Store) -> None:
        dataset = kept(store)
        store.datasets.put_files([DatasetFile(dataset_uuid=dataset.uuid, path="a", size_bytes=1)])

        store.datasets.remove(dataset.uuid)
        store.datasets.remove(dataset.uuid)

        assert store.datasets.get(dataset.uuid) is None
        assert store.datasets.files(dataset.uuid) == []

    # -- many ----------------------------------------------------------------------------------

    def test_data_sets_are_listed_newest_first_page_by_page(self, store: Store) -> None:
        uuids = [kept(store, created_at=NOON + timedelta(seconds=n // 2)).uuid for n in range(7)]

        pages, after = [], None
        while page := store.datasets.find(user=ADA, after=after, limit=3):
            pages.append([dataset.uuid for dataset in page])
            after = page[-1].uuid

        newest_first = uuids[::-1]
        assert pages == [newest_first[:3], newest_first[3:6], newest_first[6:]]

    def test_nobody_sees_another_s_nor_what_is_deleted(self, store: Store) -> None:
        mine = kept(store)
        kept(store, user=BOB)
        deleted = kept(store, deleted_at=NOON)
        kept(store, user=BOB, deleted_at=NOON)

        assert store.datasets.find(user=ADA) == [mine]
        assert store.datasets.find(user=ADA, deleted=True) == [deleted]

    def test_data_sets_are_found_by_status(self, store: Store) -> None:
        queued = kept(store, status=DatasetStatus.CONVERSION_QUEUED)
        kept(store, status=DatasetStatus.DONE)

        found = store.datasets.find(user=ADA, statuses=[DatasetStatus.CONVERSION_QUEUED, DatasetStatus.CONVERTING])

        assert found == [queued]
        assert store.datasets.find(user=ADA, statuses=[]) == []

    @pytest.mark.parametrize("text", ["HERZ", "größe", "GRÖSSE", "tiff", "Kaninchen", "tagα", "zEISS"])
    def test_text_is_found_in_name_sensor_description_tags_and_keywords_whatever_its_case(
        self, store: Store, text: str
    ) -> None:
        dataset = kept(store, name="Herz Größe", sensor="TIFF RGB", description="vom KANINCHEN", tags=("x", "TagΑ"))
        target = store.targets.get(dataset.uuid)
        assert target is not None
        store.targets.update(target, replace(target, keywords="DAPI\nZeiss Axio"), token=1)
        dataset = now_of(store, dataset)
        kept(store, name="another")

        assert store.datasets.find(user=ADA, text=text) == [dataset]

    @pytest.mark.parametrize(("text", "name"), [("100%", "1000"), ("a_b", "axb"), ("\\", "/"), ('","', "x")])
    def test_text_means_itself(self, store: Store, text: str, name: str) -> None:
        dataset = kept(store, name=f"is {text} here")
        kept(store, name=name, tags=("p", "q"))

        assert store.datasets.find(user=ADA, text=text) == [dataset]

    def test_what_is_public_is_listed_for_everybody_newest_first_page_by_page(self, store: Store) -> None:
        uuids = [
            kept(
                store,
                public=True,
                size_bytes=1,
                user=(ADA, BOB)[n % 2],
                created_at=NOON + timedelta(seconds=n // 2),
            )
            for n in range(5)
        ]
        private = kept(store, size_bytes=1)

        first = store.datasets.find_public(limit=3)

        assert first == uuids[:1:-1]
        assert store.datasets.find_public(after=first[-1].uuid, limit=3) == uuids[1::-1]
        with pytest.raises(NotFound):
            store.datasets.find_public(after=private.uuid)

    def test_what_is_private_deleted_or_empty_is_in_no_public_list(self, store: Store) -> None:
        formed = kept(store, public=True, forms=({"shape": [3]},), sensor="TIFF")
        kept(store, size_bytes=5)
        kept(store, public=True, size_bytes=5, deleted_at=NOON)
        kept(store, public=True)
        filled = kept(store, public=True, sensor="TIFF")
        store.datasets.put_files([DatasetFile(dataset_uuid=filled.uuid, path="a", size_bytes=10)])

        assert store.datasets.find_public() == [now_of(store, filled), formed]
        assert store.datasets.public_sensors() == {"TIFF": 2}
        store.datasets.describe(formed.uuid, public=False)
        store.datasets.remove_file(filled.uuid, "a")
        assert store.datasets.find_public() == []
        assert store.datasets.public_sensors() == {}

    def test_the_public_list_is_searched_and_narrowed_to_a_sensor(self, store: Store) -> None:
        def public(**fields: Any) -> Dataset:
            return kept(store, public=True, size_bytes=1, **fields)

        heart = public(name="Herz", sensor="TIFF")
        rabbit = public(name="x", tags=("KANINCHEN",), sensor="TIFF")
        field = public(name="herzlich", sensor="NETCDF")
        kept(store, name="Herz", size_bytes=1)

        assert store.datasets.find_public(text="herz") == [field, heart]
        assert store.datasets.find_public(sensor="TIFF") == [rabbit, heart]
        assert store.datasets.find_public(text="kanin", sensor="TIFF") == [rabbit]
        assert store.datasets.find_public(sensor="TIFF", after=rabbit.uuid) == [heart]
        assert store.datasets.public_sensors() == {"TIFF": 2, "NETCDF": 1}

    def test_data_sets_are_counted_by_status(self, store: Store) -> None:
        for status in (DatasetStatus.DONE, DatasetStatus.DONE, DatasetStatus.CONVERTING):
            kept(store, status=status)
        kept(store, user=BOB)
        kept(store, deleted_at=NOON)

        assert store.datasets.counts(user=ADA) == {DatasetStatus.DONE: 2, DatasetStatus.CONVERTING: 1}
        assert store.datasets.counts(user="eve@example.org") == {}

    def test_bytes_are_summed_by_owner(self, store: Store) -> None:
        kept(store, size_bytes=2**43)
        kept(store, size_bytes=5)
        kept(store, size_bytes=7, deleted_at=NOON)
        kept(store, size_bytes=9, user=BOB)

        assert store.datasets.stored_bytes(user=ADA) == 2**43 + 5
        assert store.datasets.stored_bytes(user="eve@example.org") == 0

    # -- files ---------------------------------------------------------------------------------

    def test_files_are_listed_by_path_page_by_page(self, store: Store) -> None:
        dataset = kept(store)
        files = [DatasetFile(dataset_uuid=dataset.uuid, path=f"d/{n:03}.tif", size_bytes=n) for n in range(1, 6)]

        store.datasets.put_files(files[::-1])

        first = store.datasets.files(dataset.uuid, limit=3)
        assert first == files[:3]
        assert store.datasets.files(dataset.uuid, after=first[-1].path, limit=3) == files[3:]

    def test_files_add_up_to_the_size_of_their_data_set(self, store: Store) -> None:
        dataset = kept(store)

        store.datasets.put_files([DatasetFile(dataset_uuid=dataset.uuid, path="a", size_bytes=10)])
        store.datasets.put_files(
            [
                DatasetFile(dataset_uuid=dataset.uuid, path="a", size_bytes=4, sha256="00"),
                DatasetFile(dataset_uuid=dataset.uuid, path="b", size_bytes=3),
            ]
        )
        assert now_of(store, dataset).size_bytes == 7
        store.datasets.remove_file(dataset.uuid, "a")
        store.datasets.remove_file(dataset.uuid, "a")

        assert now_of(store, dataset).size_bytes == 3
        assert [file.path for file in store.datasets.files(dataset.uuid)] == ["b"]

    def test_a_hundred_thousand_files_would_do_and_two_thousand_do(self, store: Store) -> None:
        dataset = kept(store)

        store.datasets.put_files(
            [DatasetFile(dataset_uuid=dataset.uuid, path=f"{n}", size_bytes=1) for n in range(2000)]
        )

        assert now_of(store, dataset).size_bytes == 2000

    def test_files_of_no_data_set_are_refused(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.datasets.put_files([DatasetFile(dataset_uuid=str(uuid.uuid4()), path="a", size_bytes=1)])

    def test_what_lies_elsewhere_is_not_stored_here(self, store: Store) -> None:
        kept(store, size_bytes=5)
        kept(store, size_bytes=2**43, place="/beamline/7/scan")

        assert store.datasets.stored_bytes(user=ADA) == 5

    # -- registered where they lie -------------------------------------------------------------

    def test_registered_data_sets_are_found_by_the_folder_they_lie_in(self, store: Store) -> None:
        scan = kept(store, place="/beamline/7/scan_01")
        other = kept(store, place="/beamline/7/scan_02/a.tif")
        kept(store, place="/beamline/7b/scan_01")
        kept(store, place="/beamline/70")
        kept(store, place="/beamline/7/gone", deleted_at=NOON)
        kept(store)

        assert [each.uuid for each in store.datasets.registered("/beamline/7")] == [scan.uuid, other.uuid]
        assert store.datasets.registered("/beamline/7/scan_01") == [scan]
        assert store.datasets.registered("/beamline/7/scan") == []
        assert len(store.datasets.registered("/")) == 4

    def test_a_registered_file_keeps_its_time_of_change_to_the_nanosecond(self, store: Store) -> None:
        file = DatasetFile(
            dataset_uuid=kept(store).uuid, path="a.tif", size_bytes=3, modified_ns=1_777_777_777_123_456_789
        )

        store.datasets.put_files([file])

        assert store.datasets.files(file.dataset_uuid) == [file]


class TargetStoreContract:
    """The data sets without a person."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        raise NotImplementedError

    def test_a_target_has_the_fields_of_work_and_no_person(self, store: Store) -> None:
        dataset = kept(store, wanted=WANTED, forms=({"path": "x"},))

        target = store.targets.get(dataset.uuid)

        assert target is not None
        assert (target.uuid, target.sensor, target.status) == (dataset.uuid, dataset.sensor, dataset.status)
        assert (target.wanted, target.forms) == (WANTED, dataset.forms)
        assert not hasattr(target, "user")
        assert store.targets.get(str(uuid.uuid4())) is None

    def test_a_worker_writes_with_its_token_whatever_the_version(self, store: Store) -> None:
        dataset = kept(store)
        before = store.targets.get(dataset.uuid)
        assert before is not None
        store.datasets.describe(dataset.uuid, name="typed meanwhile")

        after = store.targets.update(before, replace(before, status=DatasetStatus.CONVERTING), token=5)

        assert (after.status, after.token) == (DatasetStatus.CONVERTING, 5)
        assert now_of(store, dataset).name == "typed meanwhile"

    def test_a_worker_with_a_smaller_token_is_refused(self, store: Store) -> None:
        dataset = kept(store, token=6)
        target = store.targets.get(dataset.uuid)
        assert target is not None

        with pytest.raises(LeaseLost, match=dataset.uuid):
            store.targets.update(target, replace(target, status=DatasetStatus.DONE), token=5)
        assert store.targets.get(dataset.uuid) == target

    def test_a_worker_with_the_same_token_may_write_again(self, store: Store) -> None:
        dataset = kept(store, token=6)
        target = store.targets.get(dataset.uuid)
        assert target is not None

        assert store.targets.update(target, replace(target, sensor="TIFF"), token=6).sensor == "TIFF"

    def test_everybody_else_compares_the_version(self, store: Store) -> None:
        target = store.targets.get(kept(store).uuid)
        assert target is not None
        after = store.targets.update(target, replace(target, status=DatasetStatus.CONVERTING, token=9))

        assert (after.status, after.token) == (DatasetStatus.CONVERTING, 9)
        with pytest.raises(Stale, match=target.uuid):
            store.targets.update(target, replace(target, status=DatasetStatus.DONE))

    @pytest.mark.parametrize("token", [None, 4])
    def test_a_target_that_is_gone_is_not_found(self, store: Store, token: int | None) -> None:
        dataset = kept(store)
        target = store.targets.get(dataset.uuid)
        assert target is not None
        store.datasets.remove(dataset.uuid)

        with pytest.raises(NotFound, match=dataset.uuid):
            store.targets.update(target, replace(target, status=DatasetStatus.DONE), token=token)

    def test_promises_are_listed_oldest_change_first(self, store: Store) -> None:
        kept(store)
        late = kept(store, wanted=WANTED, updated_at=NOON + timedelta(seconds=1))
        early = kept(store, wanted=WANTED, updated_at=NOON)
        latest = kept(store, wanted=WANTED, deleted_at=NOON, updated_at=NOON + timedelta(seconds=2))

        assert [target.uuid for target in store.targets.promised()] == [early.uuid, late.uuid, latest.uuid]
        assert [target.uuid for target in store.targets.promised(limit=1)] == [early.uuid]

    def test_what_was_deleted_before_a_moment_and_waits_for_no_job_is_listed_first_deleted_first(
        self, store: Store
    ) -> None:
        kept(store)
        late = kept(store, deleted_at=NOON + timedelta(seconds=1))
        early = kept(store, deleted_at=NOON)
        kept(store, deleted_at=NOON, wanted=WANTED)
        kept(store, deleted_at=NOON + timedelta(seconds=2))
        before = NOON + timedelta(seconds=2)

        assert [target.uuid for target in store.targets.deleted(before=before)] == [early.uuid, late.uuid]
        assert [target.uuid for target in store.targets.deleted(before=before, limit=1)] == [early.uuid]

    def test_a_target_is_removed_with_its_files_by_its_latest_token_alone(self, store: Store) -> None:
        dataset, other = kept(store, token=4), kept(store, token=9)
        for each in (dataset, other):
            store.datasets.put_files([DatasetFile(dataset_uuid=each.uuid, path="a.tif", size_bytes=1)])

        with pytest.raises(LeaseLost, match=dataset.uuid):
            store.targets.remove(dataset.uuid, token=3)
        assert store.targets.get(dataset.uuid) is not None
        assert len(store.datasets.files(dataset.uuid)) == 1

        store.targets.remove(dataset.uuid, token=4)
        store.targets.remove(dataset.uuid, token=4)

        assert store.targets.get(dataset.uuid) is None
        assert store.datasets.files(dataset.uuid) == []
        assert len(store.datasets.files(other.uuid)) == 1

    def test_all_targets_are_listed_by_uuid_page_by_page(self, store: Store) -> None:
        uuids = sorted(kept(store, user=user).uuid for user in (ADA, BOB, ADA))

        first = store.targets.all(limit=2)

        assert [target.uuid for target in first] == uuids[:2]
        assert [target.uuid for target in store.targets.all(after=uuids[1])] == uuids[2:]
