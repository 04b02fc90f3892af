"""Encryption keys of a node, on the node: creation, installation, announcement, rotation.

```
<root>/etc/crisper/keys/                          0700, nothing but private keys, PKCS8 in PEM
  <host>-<thumbprint>.pem                         0600; created here, never sent
<root>/etc/crisper/nodes/<host>/encryption.json   which key is current, next, retired
<root>/etc/crisper/decryption/                    symbolic links for `--decryption-key`
  <host>.pem, <host>.previous.pem
<root>/etc/containerd/ocicrypt/keys/              copies for containerd
<root>/etc/crio/keys/                             copies for CRI-O
```

Order of a rotation: record the new key, write its files, announce it, record the answer, delete expired keys.
After a crash at any point, the key that the registry knows is in all folders, and the next run continues.

`<host>` has `_` for colons and brackets: skopeo ends a file name at a colon.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from registry.cli.identity import NodeIdentity
from registry.cli.key_state import KeyState
from registry.cli.node_requests import NodeRequestError
from registry.datadir import write_atomically
from registry.errors import ConfigError
from registry.model.nodes import Runtime
from registry.oci.node_key import NodeKey

_KEYS = Path("etc/crisper/keys")
_LINKS = Path("etc/crisper/decryption")
RUNTIME_FOLDERS: Final[Mapping[Runtime, Path]] = MappingProxyType(
    {Runtime.CONTAINERD: Path("etc/containerd/ocicrypt/keys"), Runtime.CRI_O: Path("etc/crio/keys")}
)
"""Folders in which runtimes look for keys, below the root. One file in another format breaks all pulls."""

_THUMBPRINT = "[A-Za-z0-9_-]{43}"
_UNSUPPORTED = frozenset({401, 404, 405})
"""Answers of registries that do not know encryption keys, or of a proxy that does not forward the request."""


class EncryptionKeys:
    """Encryption keys of this machine for one registry.

    Args:
        identity: The machine's identity there. Its certificate authenticates the announcement.
    """

    def __init__(self, identity: NodeIdentity) -> None:
        self._identity = identity
        self._root = identity.root
        self._label = re.sub(r"[^A-Za-z0-9.-]", "_", identity.host)
        self._name = re.compile(f"{re.escape(self._label)}-({_THUMBPRINT})\\.pem")

    def install(self, runtime: Runtime | None) -> KeyState:
        """Create a key if there is none, and install it for a runtime; None keeps the recorded runtime."""
        with self._locked():
            state = self._load()
            if runtime is not None:
                state = replace(state, runtime=runtime)
                self._save(state)
            return self._installed(state)

    async def announce(self) -> KeyState:
        """Announce the newest key.

        Returns:
            The state. Its `next` is not None if the registry does not support encryption keys.

        Raises:
            RegistryError: The registry cannot be reached, or refuses the key.
        """
        with self._locked():
            return await self._announce(self._installed(self._load()))

    async def renew(self, renewed_at: datetime | None, *, force: bool = False) -> KeyState:
        """Rotate the key if that is due, and delete keys that no session needs. Continues after a crash.

        Args:
            renewed_at: Time of the registry if it has just renewed the certificate; else nothing is rotated.
            force: Rotate also if sessions may need the registry's previous key.

        Returns:
            The state, as for `announce`.

        Raises:
            RegistryError: As for `announce`.
        """
        with self._locked():
            state = self._load()
            rotates = renewed_at is not None and (force or state.may_rotate(renewed_at))
            if rotates and state.next is None and state.current is not None:
                state = self._draw(state)
            state = self._installed(state)
            if state.next is not None or state.expired(renewed_at or datetime.now(UTC)):
                return await self._announce(state)
            return state

    def decryption_links(self) -> list[Path]:
        """Return the paths for `--decryption-key`, below the root."""
        return [_LINKS / f"{self._label}.pem", _LINKS / f"{self._label}.previous.pem"]

    async def _announce(self, state: KeyState) -> KeyState:
        """Announce the newest key, also if the registry should have it: it may have been restored since.

        Keys are deleted only after an answer, by the registry's clock.
        """
        private = serialization.load_pem_private_key(self._path(state.newest or "").read_bytes(), None)
        try:
            answer = await self._identity.announce(_public_pem(private.public_key()), state.runtime)
        except NodeRequestError as error:
            if error.status in _UNSUPPORTED:
                return state
            raise
        state = state.confirmed(answer.at, self._present())
        self._save(state)
        expired = state.expired(answer.at)
        kept = state.without(expired)
        self._link(kept)
        for folder in self._copies(state):
            for thumbprint in expired:
                (folder / self._path(thumbprint).name).unlink(missing_ok=True)
        for thumbprint in expired:
            self._path(thumbprint).unlink()
        self._save(kept)
        return kept

    def _draw(self, state: KeyState) -> KeyState:
        """Create a key. Its thumbprint is recorded first, so that no crash leaves an unrecorded key."""
        key = ec.generate_private_key(ec.SECP256R1())
        thumbprint = NodeKey.parse(_public_pem(key.public_key())).thumbprint
        state = replace(state, next=thumbprint)
        self._save(state)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write_key(self._path(thumbprint), pem)
        return state

    def _installed(self, state: KeyState) -> KeyState:
        """Create the first key if there is none, and make all copies and links those of the state."""
        if state.newest is None:
            state = self._draw(state)
        for folder in (_KEYS, *RUNTIME_FOLDERS.values()):
            _staged(self._root / folder).unlink(missing_ok=True)
        names = {self._path(thumbprint).name for thumbprint in self._present()}
        for folder in self._copies(state):
            for name in sorted(names):
                pem = (self._root / _KEYS / name).read_bytes()
                if not (folder / name).is_file() or (folder / name).read_bytes() != pem:
                    _write_key(folder / name, pem)
        for folder in [self._root / path for path in RUNTIME_FOLDERS.values()]:
            kept = names if folder in self._copies(state) else set()
            for path in folder.glob("*.pem"):
                if self._name.fullmatch(path.name) and path.name not in kept:
                    path.unlink()
        self._link(state)
        return state

    def _link(self, state: KeyState) -> None:
        """Set the links, that of the previous key first, so that the current key always has one."""
        keys = [*state.decrypting, *state.decrypting][:2]
        for link, thumbprint in reversed([*zip(self.decryption_links(), keys, strict=True)]):
            path = self._root / link
            target = os.path.relpath(self._path(thumbprint), path.parent)
            if not path.is_symlink() or path.readlink() != Path(target):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                staged = path.with_name(f".{path.name}.new")
                staged.unlink(missing_ok=True)
                staged.symlink_to(target)
                staged.replace(path)

    def _copies(self, state: KeyState) -> list[Path]:
        path = RUNTIME_FOLDERS.get(state.runtime) if state.runtime else None
        return [self._root / path] if path else []

    def _path(self, thumbprint: str) -> Path:
        return self._root / _KEYS / f"{self._label}-{thumbprint}.pem"

    def _present(self) -> set[str]:
        found = (self._name.fullmatch(path.name) for path in (self._root / _KEYS).glob("*.pem"))
        return {match[1] for match in found if match}

    def _load(self) -> KeyState:
        try:
            recorded = json.loads((self._identity.folder / "encryption.json").read_bytes())
            state = KeyState(
                recorded["current"],
                recorded["next"],
                {key: datetime.fromisoformat(at) for key, at in recorded["retired"].items()},
                Runtime(recorded["runtime"]) if recorded["runtime"] else None,
            )
        except FileNotFoundError:
            state = KeyState()
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigError(
                f"{self._identity.folder / 'encryption.json'} is damaged: remove it, and enroll again with "
                "`crisper node enroll`"
            ) from None
        restricted = state.restricted_to(self._present())
        if restricted != state:
            self._save(restricted)
        return restricted

    def _save(self, state: KeyState) -> None:
        document = {
            "current": state.current,
            "next": state.next,
            "retired": {key: at.isoformat() for key, at in state.retired.items()},
            "runtime": state.runtime,
        }
        write_atomically(self._identity.folder / "encryption.json", json.dumps(document).encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclude other runs, for example the timer's, for as long as this one lasts.

        Raises:
            ConfigError: A file cannot be read or written.
        """
        folder = os.open(self._identity.folder, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        except OSError as error:
            raise ConfigError(
                f"{error.filename} cannot be read or written: {error.strerror}; run the command as root, or "
                "install the current crisper-node-renew.service, which may write to the folders of keys"
            ) from None
        finally:
            os.close(folder)


def _public_pem(key: object) -> str:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigError("the encryption key is not a P-256 key: remove it, and run `crisper node renew`")
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


def _staged(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.new")


def _write_key(path: Path, pem: bytes) -> None:
    """Write a key atomically, from outside its folder: runtimes also read temporary files there.

    The temporary file has a fixed name, so that the next run removes it after a crash: it contains a key.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, pem, staged=_staged(path.parent))
