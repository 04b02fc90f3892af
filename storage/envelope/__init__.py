"""The encrypted container OEB1: bytes in, bytes out (docs/blob-format.md)."""
