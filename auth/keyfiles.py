"""Private key files with mode 0600, written atomically."""

import os
import stat
from pathlib import Path

from auth.errors import KeyMaterialError


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read. It is durable when this returns.

    Raises:
        KeyMaterialError: The file exists.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        raise KeyMaterialError(f"{path} already exists") from None
    finally:
        draft.unlink()
    _sync_folder(path.parent)


def read_private(path: Path) -> bytes:
    """Read a file that only its owner can read.

    Raises:
        KeyMaterialError: It is missing, or other users can read it.
    """
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise KeyMaterialError(
                    f"other users can read {path}: run `chmod 600 {path}`, and rotate the key"
                )
            return file.read()
    except OSError as error:
        raise KeyMaterialError(f"{path} cannot be read ({error.strerror})") from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
