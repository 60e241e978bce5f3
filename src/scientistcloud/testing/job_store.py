"""What every job store does, as a suite that an adapter's tests inherit.

::

    class TestSqliteJobStore(JobStoreContract):
        @pytest.fixture
        def store(self, tmp_path: Path) -> Iterator[Store]: ...

        def age(self, store: Store, job: Job, seconds: float) -> None: ...

        def insert_five_fields(self, store: Store, **five: str) -> None: ...
"""

from __future__ import annotations

from scientistcloud.testing.job_attempts import AttemptContract
from scientistcloud.testing.job_care import CareContract
from scientistcloud.testing.job_line import LineContract


class JobStoreContract(LineContract, AttemptContract, CareContract):
    """All of it."""
