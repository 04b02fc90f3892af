"""Signatures of images: policies, verification and verdicts (no I/O; docs/trust.md)."""
