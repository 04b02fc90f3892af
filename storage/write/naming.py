"""Names of objects (docs/blob-format.md, "object name"; docs/adr/0003-unique-object-names.md)."""

import hmac
from dataclasses import dataclass, field

from storage.digest import Digest

_SIDECAR = b"oeb2-sidecar"


@dataclass(frozen=True, slots=True)
class ObjectNaming:
    """Names the objects of a blob such that they do not reveal its content.

    Names are unique per container, so that no object is ever overwritten.

    Attributes:
        digest: Digest of the blob. A blob without a known digest is named by its file id alone.
    """

    name_key: bytes = field(repr=False)
    digest: Digest | None

    def container(self, file_id: bytes) -> str:
        """Return the name of the container; of its ciphertext, if the format is OEB2."""
        return self._name(file_id)

    def sidecar(self, file_id: bytes) -> str:
        """Return the name of the sidecar."""
        return self._name(file_id + _SIDECAR)

    def _name(self, rest: bytes) -> str:
        named = b"" if self.digest is None else str(self.digest).encode()
        return hmac.digest(self.name_key, named + rest, "sha256").hex()
