"""How a worker shows that it lives, and where it refuses to."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scientistcloud import open_store
from scientistcloud.errors import IncompatibleInstallation, InvalidSettings
from scientistcloud.layout import DataFolder
from scientistcloud.ports import Store
from scientistcloud.records import Worker
from scientistcloud.service import presence


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "data")


def test_unnamed_workers_take_the_first_free_names_of_their_host(folder: DataFolder) -> None:
    with presence.worker_name(folder, None) as first, presence.worker_name(folder, None) as second:
        assert (first, second) == (f"{presence.host()}-1", f"{presence.host()}-2")

    with presence.worker_name(folder, None) as again:
        assert again == first


def test_a_name_in_use_is_refused(folder: DataFolder) -> None:
    with (
        presence.worker_name(folder, "ada"),
        pytest.raises(InvalidSettings, match="ada runs already"),
        presence.worker_name(folder, "ada"),
    ):
        pass


def test_the_lock_of_another_process_is_seen_until_that_dies(folder: DataFolder) -> None:
    path = folder.worker_lock("ada")
    script = (
        "import sys; from pathlib import Path; from scientistcloud.service.presence import lock_of\n"
        "with lock_of(Path(sys.argv[1])) as held: print(held, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"True\n"
        with presence.lock_of(path) as held:
            assert not held

        other.kill()
        other.wait()

        with presence.lock_of(path) as held:
            assert held


def test_a_data_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with (
        pytest.raises(InvalidSettings, match="cannot be used"),
        presence.worker_name(DataFolder(tmp_path / "file"), None),
    ):
        pass


@pytest.fixture
def store(folder: DataFolder) -> Store:
    return open_store(f"sqlite:///{folder.database}")


def test_the_first_worker_writes_down_the_installation(folder: DataFolder, store: Store) -> None:
    presence.check_installation(store, folder)
    presence.check_installation(store, folder)

    assert folder.installation_id.read_text() == f"{store.meta.installation_id()}\n"
    assert len(list(folder.root.glob("installation-id*"))) == 1
    store.close()


def test_another_installations_data_folder_is_refused(folder: DataFolder, store: Store) -> None:
    folder.installation_id.write_text("another\n")

    with pytest.raises(IncompatibleInstallation, match="set DATA_DIR or DATABASE_URL"):
        presence.check_installation(store, folder)
    store.close()


def test_an_embedded_database_that_another_host_uses_is_refused(store: Store) -> None:
    entry = Worker(
        worker_id="bob",
        host="elsewhere",
        slots=1,
        job_types=(),
        sensors=(),
        version="",
        started_at=datetime.now(UTC),
        last_seen=datetime.now(UTC),
    )
    store.workers.announce(entry)

    with pytest.raises(InvalidSettings, match="worker bob on host elsewhere; set DATABASE_URL"):
        presence.check_database_is_here(store, lease_seconds=30)

    long_ago = datetime.now(UTC) - timedelta(hours=1)
    store.workers.announce(
        Worker(**{name: getattr(entry, name) for name in entry.__slots__} | {"last_seen": long_ago})
    )
    presence.check_database_is_here(store, lease_seconds=30)
    store.close()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/ada/db", "ext4"),
        ("/home/ada/remote/db", "nfs4"),
        ("/home/ada/remoter/db", "ext4"),
        ("/mnt/my disk/db", "fuse.sshfs"),
        ("/elsewhere", "overlay"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_nearest_mount(tmp_path: Path, path: str, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 0:21 / / rw - overlay overlay rw\n"
        "23 22 8:1 / /home rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "24 23 0:40 / /home/ada/remote rw - nfs4 server:/export rw\n"
        "25 22 0:41 / /mnt/my\\040disk rw - fuse.sshfs host:/ rw\n"
    )

    assert presence.file_system_of(Path(path), mounts=mounts) == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "fuse.glusterfs", "ceph", "lustre"])
def test_an_embedded_database_on_a_network_file_system_is_refused(
    store: Store, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "file_system_of", lambda _path: kind)

    with pytest.raises(InvalidSettings, match="network file system"):
        presence.check_database_is_here(store, lease_seconds=30)
    store.close()
