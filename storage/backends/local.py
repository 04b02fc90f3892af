"""Backend that stores objects as files in a local folder.

<root>/
  objects/
    3f/3fa4...e1      a visible object: complete, durable, immutable; 0600
  incoming/
    9c01...7a         an unfinished object; its writer holds a lock until it ends. Later it is resumed, or
                      removed by recovery

    Steps of a commit: fsync the file, link it to its name (which never replaces an object), fsync the folder.
    The file system must support hard links.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from storage.backends.write_back import start_write_back
from storage.errors import (
    BlobNotFoundError,
    ObjectExistsError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)

_NAME = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_PROBE_BYTES = 16
_WRITE_BACK_BYTES = 8 << 20
_SHARED_FOLDER = 0o2750  # setgid: what is created in it has the folder's group
_SHARED_FILE = 0o640


class LocalBackend:
    """Stores objects under `root`, which is created if it is missing.

    Args:
        group: Name of a group that may read the objects, such as a web server's; None for nobody.

    Raises:
        StorageFullError: `root` cannot be written.
        StorageUnavailableError: `root` does not answer.
    """

    def __init__(self, root: Path, group: str | None = None) -> None:
        self._objects = root / "objects"
        self._incoming = root / "incoming"
        self._shared = group is not None
        with _translated():
            for folder in (root, self._objects, self._incoming):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if group is not None:
                    _share(folder, group)
            _fsync_folder(root)

    def create(self, name: str, expected_bytes: int | None = None) -> "LocalObjectWriter":  # noqa: ARG002
        """Start an object, which stays invisible until its commit."""
        target = _path(self._objects, name)
        with _translated():
            return LocalObjectWriter(self._incoming / name, target, shared=self._shared)

    def open(self, name: str) -> "LocalObjectReader":
        """Open a visible object. Raises BlobNotFoundError."""
        with _translated(reading=True):
            return LocalObjectReader(_path(self._objects, name))

    def delete(self, name: str) -> bool:
        """Remove an object. Returns False if there is no such object."""
        path = _path(self._objects, name)
        with _translated():
            try:
                path.unlink()
            except FileNotFoundError:
                return False
            _fsync_folder(path.parent)
        return True

    def names(self) -> Iterator[str]:
        """List the visible objects, folder by folder."""
        with _translated():
            for folder in sorted(self._objects.iterdir()):
                yield from sorted(entry.name for entry in folder.iterdir() if _NAME.fullmatch(entry.name))

    def path(self, name: str) -> str:
        """Return an object's path below the folder."""
        return str(_path(self._objects, name).relative_to(self._objects.parent))

    def signed_url(self, name: str, lifetime_s: float) -> str | None:  # noqa: ARG002 (files have no URL)
        """Return None."""
        return None

    def salvage(self, name: str) -> "LocalObjectReader | None":
        """Open an unfinished object whose writer has ended. The reader holds its lock until it is closed."""
        path = self._incoming / _checked(name)
        with _translated(reading=True):
            try:
                reader = LocalObjectReader(path)
            except BlobNotFoundError:
                return None
            if reader.lock():
                return reader
            reader.close()
            return None

    def discard(self, name: str) -> None:
        """Remove an unfinished object."""
        with _translated():
            (self._incoming / _checked(name)).unlink(missing_ok=True)

    def recover(self, keep: Collection[str] = frozenset()) -> int:
        """Remove unfinished objects whose writers have ended, except for `keep`. Returns their number.

        Objects of running writers, in any process, are safe: the writers hold a lock on them.
        """
        with _translated():
            dead = [path for path in self._incoming.iterdir() if path.name not in keep]
            removed = sum(map(_remove_if_dead, dead))
            _fsync_folder(self._incoming)
        return removed

    def probe(self) -> None:
        """Check that the folder exists, may be written and has free space. Writes nothing."""
        with _translated():
            found = os.statvfs(self._incoming)
            if found.f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            if not found.f_bavail:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if not os.access(self._incoming, os.W_OK | os.X_OK):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    def probe_writing(self) -> None:
        """Write an object and remove it."""
        with _translated():
            probe = self._incoming / f"probe-{secrets.token_hex(8)}"
            writer = LocalObjectWriter(probe, self._objects / "probe")
            try:
                writer.write(bytes(_PROBE_BYTES))
                writer.sync()
            finally:
                writer.abort()


class LocalObjectWriter:
    """Writer of a file in `incoming`. For one thread at a time.

    Args:
        shared: Whether the folder's group may read the object.
    """

    def __init__(self, path: Path, target: Path, *, shared: bool = False) -> None:
        self._path = path
        self._target = target
        self._shared = shared
        self._fd = _create_locked(path)
        self._written = 0
        self._sent = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        view = memoryview(data)
        with _translated():
            while view:
                count = os.write(self._fd, view)
                view = view[count:]
                self._written += count
        if self._written - self._sent >= _WRITE_BACK_BYTES:
            start_write_back(self._fd, self._sent, self._written - self._sent)
            self._sent = self._written

    def sync(self) -> None:
        """Make the written bytes durable."""
        with _translated():
            os.fsync(self._fd)

    def commit(self) -> None:
        """Make the object durable and visible under its name. Raises ObjectExistsError."""
        folder = self._target.parent
        self.sync()
        with _translated():
            if not folder.exists():
                folder.mkdir(mode=0o700, exist_ok=True)
                if self._shared:
                    folder.chmod(_SHARED_FOLDER)
                _fsync_folder(folder.parent)
            if self._shared:
                os.fchmod(self._fd, _SHARED_FILE)
            self._link()
            _fsync_folder(folder)
        self.abort()

    def _link(self) -> None:
        try:
            os.link(self._path, self._target)
        except FileExistsError:
            raise ObjectExistsError("an object with this name already exists") from None

    def abort(self) -> None:
        """Remove the file from `incoming`. A committed object is not affected."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        with suppress(OSError):
            self._path.unlink()
        os.close(fd)

    def leave(self) -> None:
        """Release the lock and keep the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class LocalObjectReader:
    """Open file. Threads may share it until it is closed."""

    def __init__(self, path: Path) -> None:
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise BlobNotFoundError("the object is not in storage") from None
        self._size_bytes = os.fstat(self._fd).st_size

    @property
    def size_bytes(self) -> int:
        """Length of the object."""
        return self._size_bytes

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`. Returns the number of bytes read, fewer at the end of the object."""
        filled = 0
        with _translated(reading=True):
            while filled < len(buffer) and (count := os.preadv(self._fd, [buffer[filled:]], offset + filled)):
                filled += count
        return filled

    def fileno(self) -> int | None:
        """Return the file's descriptor."""
        return self._fd

    def lock(self) -> bool:
        """Lock the file until it is closed. Returns False if it is locked already, or was removed."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return os.fstat(self._fd).st_nlink > 0

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _share(folder: Path, group: str) -> None:
    try:
        shutil.chown(folder, group=group)
    except LookupError:
        raise StorageUnavailableError(
            f"this machine has no group {group!r}: check `group` in the storage URL"
        ) from None
    folder.chmod(_SHARED_FOLDER)


def _create_locked(path: Path) -> int:
    """Create a file and lock it. Retries if a recovery removed the file before it was locked."""
    while True:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink > 0:
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _path(objects: Path, name: str) -> Path:
    return objects / name[:2] / _checked(name)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BlobNotFoundError("an object name is 64 lower-case hex digits")
    return name


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove_if_dead(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


@contextmanager
def _translated(*, reading: bool = False) -> Iterator[None]:
    """Translate OSError to errors of this package."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, "unknown error")
        if error.errno in _NO_ROOM and not reading:
            raise StorageFullError(
                f"storage cannot be written ({code}): check its free space and permissions"
            ) from error
        raise StorageUnavailableError(f"storage does not answer ({code}): check its disk") from error
