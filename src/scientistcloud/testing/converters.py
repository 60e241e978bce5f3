"""What every converter does, as a suite that a converter's tests inherit.

::

    class TestMine(ConverterContract):
        @pytest.fixture
        def converter(self) -> Converter:
            return MyConverter()

        @pytest.fixture
        def sample(self, tmp_path: Path) -> Path: ...

        @pytest.fixture
        def values(self) -> Array: ...
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from scientistcloud.converters.contract import HEAD_BYTES, Converter, ReadOptions
from scientistcloud.errors import SourceError, UnreadableSource, UnsafeSource
from scientistcloud.omezarr.image import Array, AxisKind, Image, Reader, Region

_ORDER = [AxisKind.TIME, AxisKind.CHANNEL, AxisKind.CUSTOM, AxisKind.SPACE]


def whole(image: Image) -> Region:
    """All of `image`."""
    return tuple(slice(0, length) for length in image.shape)


def regions(image: Image) -> Iterator[Region]:
    """Boxes of every kind: one voxel, the last one, a plane, a middle that fits no tile, one that is thin."""
    yield tuple(slice(0, 1) for _ in image.shape)
    yield tuple(slice(n - 1, n) for n in image.shape)
    yield tuple(slice(n // 3, n // 3 + max(1, n // 2)) for n in image.shape)
    for axis in range(len(image.shape)):
        yield tuple(slice(n // 2, n // 2 + 1) if i == axis else slice(0, n) for i, n in enumerate(image.shape))


def equal(one: Array, other: Array) -> bool:
    """Of the same type and bit for bit the same, NaN included."""
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()
    )


class ConverterContract:
    """Inherit it and give the fixtures `converter`, `sample` and `values`."""

    #: How many damaged copies of the sample are tried.
    damaged_files = 150

    @pytest.fixture
    def converter(self) -> Converter:
        raise NotImplementedError

    @pytest.fixture
    def sample(self, tmp_path: Path) -> Path:
        """A sound file of the format, of at most some 100 kB, in a folder where it can be changed."""
        raise NotImplementedError

    @pytest.fixture
    def values(self) -> Array:
        """The values of the sample's default image, in the order in which it is written."""
        raise NotImplementedError

    @contextmanager
    def opened(self, converter: Converter, path: Path) -> Iterator[Reader]:
        """`path` as a data set of its own."""
        reader = converter.open([path], root=path.parent, options=ReadOptions())
        try:
            yield reader
        finally:
            reader.close()

    def read_or_refused(self, converter: Converter, path: Path) -> Array | SourceError:
        """All of the default image, or why it cannot be read; any other exception is raised."""
        try:
            with self.opened(converter, path) as reader:
                return reader.read(0, whole(reader.describe().images[0]))
        except SourceError as refused:
            return refused

    # -- recognising ---------------------------------------------------------------------------

    def test_a_file_is_recognised_by_its_content_whatever_it_is_called(
        self, converter: Converter, sample: Path
    ) -> None:
        head = sample.read_bytes()[:HEAD_BYTES]

        assert converter.sniff(head, sample.name)
        assert converter.sniff(head, "README.txt")

    @pytest.mark.parametrize(
        "content", [b"", b"\0" * 512, b"Dear colleague, attached are the data.\n", b"\xff" * 64]
    )
    def test_what_is_no_data_is_not_recognised_under_the_name_of_data(
        self, converter: Converter, sample: Path, content: bytes
    ) -> None:
        assert not converter.sniff(content, sample.name)

    def test_it_says_which_sensors_it_reads(self, converter: Converter) -> None:
        assert converter.sensors
        assert converter.summary
        assert "\n" not in converter.summary

    # -- describing ----------------------------------------------------------------------------

    def test_a_description_keeps_to_what_an_image_may_be(self, converter: Converter, sample: Path) -> None:
        with self.opened(converter, sample) as reader:
            source = reader.describe()

        assert source.sensor in converter.sensors
        assert source.reader
        assert source.images
        assert len({image.name for image in source.images}) == len(source.images)
        for image in source.images:
            kinds = [axis.kind for axis in image.axes]
            assert 2 <= kinds.count(AxisKind.SPACE) <= 3
            assert kinds.count(AxisKind.TIME) <= 1
            assert kinds.count(AxisKind.CHANNEL) + kinds.count(AxisKind.CUSTOM) <= 1
            assert kinds == sorted(kinds, key=_ORDER.index)
            assert len({axis.name for axis in image.axes}) == len(image.axes)
            assert all(axis.length > 0 for axis in image.axes)
            assert all(axis.spacing is None or 0 < axis.spacing < math.inf for axis in image.axes)
            assert image.dtype.isnative
            channels = [axis.length for axis in image.axes if axis.kind is AxisKind.CHANNEL]
            assert [len(image.channels)] == (channels or [0])
            assert image.transposed is None or sorted(image.transposed) == list(range(len(image.axes)))
            assert image.source_chunk is None or len(image.source_chunk) == len(image.axes)
            for coordinate in image.coordinates:
                assert len(coordinate.dims) == coordinate.values.ndim

    def test_the_sources_own_metadata_are_json(self, converter: Converter, sample: Path) -> None:
        with self.opened(converter, sample) as reader:
            text = json.dumps(reader.describe().metadata, default=lambda scalar: scalar.item())

        assert len(text) < 1 << 22

    def test_describing_twice_says_the_same(self, converter: Converter, sample: Path) -> None:
        with self.opened(converter, sample) as reader:
            first, second = reader.describe(), reader.describe()

        assert [image.name for image in first.images] == [image.name for image in second.images]
        assert [image.shape for image in first.images] == [image.shape for image in second.images]

    # -- reading -------------------------------------------------------------------------------

    def test_the_values_are_those_of_the_file(self, converter: Converter, sample: Path, values: Array) -> None:
        with self.opened(converter, sample) as reader:
            read = reader.read(0, whole(reader.describe().images[0]))

        assert equal(read, values)

    def test_a_region_is_that_part_of_the_whole(self, converter: Converter, sample: Path) -> None:
        with self.opened(converter, sample) as reader:
            source = reader.describe()
            for number, image in enumerate([*source.images, *(array.image for array in source.arrays)]):
                all_of_it = reader.read(number, whole(image))
                assert all_of_it.dtype == image.dtype
                for region in regions(image):
                    assert equal(reader.read(number, region), all_of_it[region]), region

    def test_several_threads_read_at_once(self, converter: Converter, sample: Path) -> None:
        with self.opened(converter, sample) as reader, ThreadPoolExecutor(8) as threads:
            image = reader.describe().images[0]
            all_of_it = reader.read(0, whole(image))
            asked = list(regions(image)) * 8

            read = list(threads.map(lambda region: reader.read(0, region), asked))

        assert all(equal(part, all_of_it[region]) for part, region in zip(read, asked, strict=True))

    def test_a_reader_closes_twice(self, converter: Converter, sample: Path) -> None:
        reader = converter.open([sample], root=sample.parent, options=ReadOptions())

        reader.close()
        reader.close()

    def test_the_source_is_not_touched(self, converter: Converter, sample: Path) -> None:
        before = hashlib.sha256(sample.read_bytes()).digest(), sample.stat().st_mtime_ns
        beside = sorted(sample.parent.iterdir())
        sample.chmod(0o444)

        with self.opened(converter, sample) as reader:
            reader.read(0, whole(reader.describe().images[0]))

        assert (hashlib.sha256(sample.read_bytes()).digest(), sample.stat().st_mtime_ns) == before
        assert sorted(sample.parent.iterdir()) == beside

    # -- what goes wrong -----------------------------------------------------------------------

    def test_a_cut_file_never_passes_as_other_values(
        self, converter: Converter, sample: Path, values: Array
    ) -> None:
        content = sample.read_bytes()
        steps = [len(content) * part // 40 for part in range(40)]

        for length in (*range(1, 64), *steps, len(content) - 1):
            sample.write_bytes(content[:length])
            read = self.read_or_refused(converter, sample)
            if isinstance(read, SourceError):
                assert sample.name in str(read), length
                assert "\n" not in str(read), length
            else:
                assert equal(read, values), f"cut at {length} of {len(content)} bytes"

    def test_a_damaged_file_is_refused_or_read_and_nothing_else(self, converter: Converter, sample: Path) -> None:
        content = sample.read_bytes()
        random = np.random.default_rng(0)

        for _ in range(self.damaged_files):
            damaged = bytearray(content)
            for place in random.integers(0, min(len(content), 4096), random.integers(1, 6)):
                damaged[place] = random.integers(0, 256)
            sample.write_bytes(damaged)
            if not converter.sniff(bytes(damaged[:HEAD_BYTES]), sample.name):
                continue
            try:
                with self.opened(converter, sample) as reader:
                    for number, image in enumerate(reader.describe().images):
                        if math.prod(image.shape) < 1 << 24:
                            reader.read(number, whole(image))
            except SourceError:
                pass

    def test_a_magic_number_with_nothing_behind_it_is_refused(self, converter: Converter, sample: Path) -> None:
        sample.write_bytes(sample.read_bytes()[:8] + bytes(1000))

        with pytest.raises(SourceError, match=sample.stem), self.opened(converter, sample):
            pass

    def test_a_file_that_changes_while_it_is_read_is_noticed(self, converter: Converter, sample: Path) -> None:
        with self.opened(converter, sample) as reader:
            region = whole(reader.describe().images[0])
            with sample.open("ab") as file:
                file.write(b"more")
            os.utime(sample, ns=(0, 0))

            with pytest.raises(UnreadableSource, match="changed"):
                reader.read(0, region)


class ContainmentContract:
    """For formats whose files can name others: inherit it and give `converter` and `hostile`."""

    @pytest.fixture
    def converter(self) -> Converter:
        raise NotImplementedError

    @pytest.fixture
    def hostile(self, tmp_path: Path) -> Path:
        """A file that names another one outside its folder."""
        raise NotImplementedError

    def test_a_file_that_leads_out_of_its_data_set_is_refused(self, converter: Converter, hostile: Path) -> None:
        with pytest.raises(UnsafeSource, match=hostile.stem):
            converter.open([hostile], root=hostile.parent, options=ReadOptions())
