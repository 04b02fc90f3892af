"""The encrypted container `OEB1` (docs/blob-format.md): bytes in, bytes out."""
