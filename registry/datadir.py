"""The data folder: what lies where, and its first start.

```
<data-dir>/             0700
  lock                  held by the server and its children; a second server waits, then refuses
  operator.key          opens the operator API
  server.json           where the running server listens, for the command line
  keyring.json          key-encryption keys (elsewhere with CRISPER_KEYRING)
  signing-keys/         the token authority's ES256 keys
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

_KEY_BYTES = 32


class DataDir:
    """A data folder that this process owns."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @property
    def operator_key(self) -> Path:
        """The file that holds the operator key."""
        return self.root / "operator.key"

    @property
    def address(self) -> Path:
        """The file that says where the running server listens."""
        return self.root / "server.json"

    @property
    def signing_keys(self) -> Path:
        """The folder of the token authority's keys."""
        return self.root / "signing-keys"

    @property
    def node_ca(self) -> Path:
        """The folder of the nodes' certificate authority."""
        return self.root / "node-ca"

    @property
    def catalog(self) -> Path:
        """The SQLite database."""
        return self.root / "catalog.db"

    @property
    def ledger(self) -> Path:
        """The child Redis' folder."""
        return self.root / "ledger"

    @property
    def blobs(self) -> Path:
        """The folder of ciphertext."""
        return self.root / "blobs"

    def create(self) -> None:
        """Make the folder where there is none. Raises ConfigError: not possible, or not safe."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"the data folder {self.root} cannot be made: {error.strerror}") from error
        if self.root.stat().st_mode & 0o022:
            raise ConfigError(f"others can write to {self.root}; run: chmod go-w {self.root}")

    def lock(self, wait_s: float) -> int:
        """Take the folder for this process and the children that inherit the descriptor.

        A server that was killed leaves children for an instant; waiting lets them go, so that no two
        ledgers ever write one append-only file.

        Args:
            wait_s: How long to wait for whoever holds it.

        Returns:
            The descriptor: the folder is held until every copy of it is closed.

        Raises:
            ConfigError: Another server still holds it.
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
                        f"another server is using {self.root}; stop it, or give --data-dir another folder"
                    ) from None
                time.sleep(0.05)
            else:
                return descriptor

    def ensure_operator_key(self) -> None:
        """Draw the operator key on first start."""
        if not self.operator_key.exists():
            write_secret(self.operator_key, f"crisper_op_{secrets.token_urlsafe(_KEY_BYTES)}\n".encode())


def read_operator_key(path: Path) -> str:
    """Return the operator key. Raises ConfigError: not there, or others can read it."""
    try:
        mode = path.stat().st_mode
        key = path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"the operator key {path} cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigError(f"others can read {path}; run: chmod 600 {path}")
    if not key:
        raise ConfigError(f"{path} is empty; remove it, and the next start draws a new key")
    return key


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
