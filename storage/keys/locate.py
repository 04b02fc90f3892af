"""Key URLs: `local:///path`, `awskms://alias/name`, `vault://host/mount` (docs/keys.md).

Credentials come from the environment. A URL with credentials is refused.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from storage.keys.local import LocalKeyring
from storage.ports import KeyProvider

_OPTIONS: Mapping[str, set[str]] = {
    "local": set(),
    "awskms": {"region", "endpoint"},
    "vault": {"prefix", "scheme"},
}
_NAME_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class KeyLocation:
    """Location of the key-encryption keys.

    Attributes:
        scheme: `local`, `awskms` or `vault`.
        place: The file, the alias, or host and port.
        mount: Mount path of the Transit engine, for Vault.
    """

    scheme: str
    place: str
    mount: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, url: str) -> "KeyLocation":
        """Parse a key URL. Raises ValueError; the message does not contain the URL."""
        parts = urlsplit(url)
        if parts.scheme not in _OPTIONS:
            raise ValueError("a key URL must start with local://, awskms:// or vault://")
        if "@" in parts.netloc or parts.fragment:
            raise ValueError(
                "remove the credentials from the key URL: Crisper reads them from the environment"
            )
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        if unknown := sorted(set(options) - _OPTIONS[parts.scheme]):
            raise ValueError(f"a {parts.scheme}:// URL has no option {', '.join(unknown)}")
        path = parts.path.strip("/")
        if parts.scheme == "local":
            if parts.netloc or not path:
                raise ValueError("write the key URL as local:///absolute/path")
            return cls("local", unquote(parts.path), "", options)
        if parts.scheme == "awskms":
            if parts.netloc != "alias" or not path or path.startswith("aws/"):
                raise ValueError("write the key URL as awskms://alias/NAME")
            return cls("awskms", f"alias/{path}", "", options)
        if not parts.netloc or options.get("scheme", "https") not in {"http", "https"}:
            raise ValueError("write the key URL as vault://HOST[:PORT]/MOUNT")
        return cls("vault", parts.netloc, path or "transit", options)

    @property
    def file(self) -> Path | None:
        """The keyring file; None if a service holds the keys."""
        return Path(self.place) if self.scheme == "local" else None

    def open(self) -> KeyProvider:
        """Open the key provider. The caller closes it. Raises KeyUnavailableError."""
        if self.scheme == "local":
            return LocalKeyring.load(Path(self.place))
        if self.scheme == "vault":
            from storage.keys.vault_transit import VaultTransitKeys  # noqa: PLC0415 (only servers with Vault need it)

            address = f"{self.options.get('scheme', 'https')}://{self.place}"
            prefix = self.options.get("prefix", "crisper")
            return VaultTransitKeys(address, mount=self.mount, prefix=prefix)
        from storage.keys.aws_kms import AwsKmsKeys  # noqa: PLC0415 (half a second of imports)

        return AwsKmsKeys(
            self.place, region=self.options.get("region"), endpoint=self.options.get("endpoint")
        )


def name_key(keys: KeyProvider) -> bytes:
    """Return the key from which object names are derived.

    Key records contain the names, which are never derived again. Without a keyring file, a random key for
    this process is therefore sufficient (docs/blob-format.md, "object name").
    """
    return keys.name_key if isinstance(keys, LocalKeyring) else os.urandom(_NAME_KEY_BYTES)
