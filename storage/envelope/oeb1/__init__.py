"""The encrypted container `OEB1` (docs/blob-format.md): one object, AES-256-GCM."""
