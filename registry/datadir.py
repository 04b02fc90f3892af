"""Layout of the data folder, its lock, and the operator key.

```
<data-dir>/             0700
  lock                  held by the server and its children; a second server waits, then gives up
  operator.key          the key to the operator API
  server.json           address of the running server, for the command line
  keyring.json          key-encryption keys (elsewhere with CRISPER_KEYRING)
  signing-keys/         the token authority's ES256 keys; public/ has their public parts
  node-ca/              the certificate authority for nodes
  catalog.db            SQLite (elsewhere with CRISPER_DATABASE_URL)
  ledger/               the child Redis' append-only file and log (none with CRISPER_REDIS_URL)
  blobs/                ciphertext
```
"""

import fcntl
import os
import secrets
import time
from pathlib import Path

from registry.errors import ConfigError

OPERATOR_KEY_PREFIX = "crisper_op_"
_KEY_BYTES = 32


class DataDir:
    """A data folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @property
    def operator_key(self) -> Path:
        """File with the operator key."""
        return self.root / "operator.key"

    @property
    def address(self) -> Path:
        """File with the address of the running server."""
        return self.root / "server.json"

    @property
    def signing_keys(self) -> Path:
        """Folder of the token authority's keys."""
        return self.root / "signing-keys"

    @property
    def node_ca(self) -> Path:
        """Folder of the nodes' certificate authority."""
        return self.root / "node-ca"

    @property
    def catalog(self) -> Path:
        """SQLite database."""
        return self.root / "catalog.db"

    @property
    def ledger(self) -> Path:
        """Folder of the child Redis."""
        return self.root / "ledger"

    @property
    def blobs(self) -> Path:
        """Folder of the encrypted blobs."""
        return self.root / "blobs"

    def create(self) -> None:
        """Create the folder if it is missing.

        Raises:
            ConfigError: It cannot be created, or other users can write to it.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"the data folder {self.root} cannot be created: {error.strerror}") from error
        if self.root.stat().st_mode & 0o022:
            raise ConfigError(f"other users can write to {self.root}: run `chmod go-w {self.root}`")

    def lock(self, wait_s: float) -> int:
        """Lock the folder for this process and the children that inherit the descriptor.

        Children of a killed server may run for a moment longer. Waiting for them prevents that two ledgers
        write the same append-only file.

        Args:
            wait_s: Seconds to wait for the current holder.

        Returns:
            The descriptor. The lock lasts until every copy of it is closed.

        Raises:
            ConfigError: Another server still holds the lock.
        """
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise ConfigError(
                        f"another server is using {self.root}: stop it, or set another --data-dir"
                    ) from None
                time.sleep(0.05)
            else:
                return descriptor

    def ensure_operator_key(self) -> None:
        """Generate the operator key on the first start."""
        if not self.operator_key.exists():
            write_atomically(
                self.operator_key, f"{OPERATOR_KEY_PREFIX}{secrets.token_urlsafe(_KEY_BYTES)}\n".encode()
            )


def read_operator_key(path: Path) -> str:
    """Read the operator key. Raises ConfigError: it is missing or empty, or other users can read it."""
    try:
        mode = path.stat().st_mode
        key = path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"the operator key {path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigError(f"other users can read {path}: run `chmod 600 {path}`")
    if not key:
        raise ConfigError(f"{path} is empty: remove it; the server generates a new key at its next start")
    return key


def write_atomically(path: Path, content: bytes, *, mode: int = 0o600, staged: Path | None = None) -> None:
    """Write a file as a whole, or not at all; by default readable only by its owner.

    Args:
        staged: What is written first and renamed; by default a hidden file beside it.
    """
    staged = staged or path.with_name(f".{path.name}.{os.getpid()}")
    staged.unlink(missing_ok=True)
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    staged.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
