"""The encrypted container `OEB1` (docs/blob-format.md): one object, AES-256-GCM."""

from storage.envelope.oeb1.opener import HEAD_BYTES, Container, Unlocked

__all__ = ["HEAD_BYTES", "Container", "Unlocked"]
