"""The encrypted container `OEB2` (docs/blob-format-oeb2.md): ciphertext as nodes get it, and a sidecar."""

from storage.envelope.oeb2.header import HEADER_BYTES
from storage.envelope.oeb2.opener import Container
from storage.envelope.oeb2.sidecar import Unlocked

__all__ = ["HEADER_BYTES", "Container", "Unlocked"]
