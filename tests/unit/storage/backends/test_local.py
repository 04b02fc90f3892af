import errno
import grp
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from storage.backends.local import LocalBackend
from storage.errors import BlobNotFoundError, StorageFullError, StorageUnavailableError

NAME = "ab" * 32


def test_files_and_folders_are_this_users_alone(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "blobs")
    writer = backend.create(NAME)
    writer.commit()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "blobs").rglob("*") if path.is_dir()}
    assert modes == {0o700}
    assert stat.S_IMODE((tmp_path / "blobs/objects/ab" / NAME).stat().st_mode) == 0o600
    assert list((tmp_path / "blobs/incoming").iterdir()) == []


def test_a_group_may_read_objects_if_it_is_named(tmp_path: Path) -> None:
    mine = grp.getgrgid(os.getgid()).gr_name
    LocalBackend(tmp_path / "blobs", mine).create(NAME).commit()
    folders = (tmp_path / "blobs", tmp_path / "blobs/objects", tmp_path / "blobs/objects/ab")
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o2750}
    assert stat.S_IMODE((tmp_path / "blobs/objects/ab" / NAME).stat().st_mode) == 0o640


def test_an_unknown_group_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailableError, match="this machine has no group 'nobody-knows'"):
        LocalBackend(tmp_path / "blobs", "nobody-knows")


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "AB" * 32, "ab" * 31, NAME + "\n"])
def test_a_name_that_is_not_ours_leads_nowhere(tmp_path: Path, name: str) -> None:
    backend = LocalBackend(tmp_path)
    with pytest.raises(BlobNotFoundError):
        backend.open(name)


def test_recovery_removes_what_dead_writers_left_and_spares_the_living(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    living = backend.create(NAME)
    living.write(b"still writing")
    (tmp_path / "incoming" / "left-by-the-dead").write_bytes(b"half a blob")
    assert LocalBackend(tmp_path).recover() == 1
    living.commit()
    assert list(backend.names()) == [NAME]


def test_an_object_is_made_durable_before_it_is_named_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = LocalBackend(tmp_path)
    writer = backend.create(NAME)
    writer.write(b"data")
    steps: list[str] = []
    genuine_fsync, genuine_link = os.fsync, os.link

    def fsync(fd: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        genuine_fsync(fd)

    def link(source: Path, target: Path) -> None:
        steps.append("link")
        genuine_link(source, target)

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("os.link", link)
    writer.commit()
    assert steps == ["file", "folder", "link", "folder"]


_ON_A_SMALL_DISK = textwrap.dedent(
    """
    import subprocess, sys
    from pathlib import Path
    from storage.backends.local import LocalBackend
    from storage.errors import StorageFullError

    NAME = "ab" * 32
    root = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", root], check=True)
    backend = LocalBackend(root)
    writer = backend.create(NAME)
    try:
        for _ in range(100):
            writer.write(bytes(65536))
    except StorageFullError as error:
        print(error)
    writer.abort()
    assert list((root / "incoming").iterdir()) == []
    backend.probe()
    backend.probe_writing()
    subprocess.run(["mount", "-o", "remount,ro", root], check=True)
    for probe in (backend.probe, backend.probe_writing):
        try:
            probe()
        except StorageFullError as error:
            print(error)
    subprocess.run(["umount", "--lazy", root], check=True)
    """
)


def with_own_mounts() -> list[str]:
    """Return the command that runs a program in a mount namespace. In a chroot only root can make one."""
    as_anyone = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*as_anyone, "true"], capture_output=True, check=False).returncode == 0:
        return as_anyone
    return ["unshare", "--mount", "--propagation", "unchanged"]


def test_a_full_or_read_only_disk_says_so_and_recovers_when_there_is_room(tmp_path: Path) -> None:
    done = subprocess.run(
        [*with_own_mounts(), sys.executable, "-c", _ON_A_SMALL_DISK, tmp_path],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "storage cannot be written (ENOSPC): check its free space and permissions",
        *["storage cannot be written (EROFS): check its free space and permissions"] * 2,
    ]


@pytest.mark.parametrize(
    ("code", "expected"), [(errno.EDQUOT, StorageFullError), (errno.EIO, StorageUnavailableError)]
)
def test_system_errors_become_this_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: type[Exception]
) -> None:
    writer = LocalBackend(tmp_path).create(NAME)

    def fail(_fd: int, _data: memoryview) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.write", fail)
    with pytest.raises(expected, match=errno.errorcode[code]):
        writer.write(b"data")
    writer.abort()


def test_a_live_writer_is_not_salvaged_and_salvage_is_exclusive(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    writer = backend.create(NAME)
    writer.write(b"half")
    assert backend.salvage(NAME) is None
    writer.leave()
    reader = backend.salvage(NAME)
    assert reader is not None
    assert backend.salvage(NAME) is None
    assert backend.recover() == 0
    reader.close()
    assert backend.recover({NAME}) == 0
    assert backend.recover() == 1
