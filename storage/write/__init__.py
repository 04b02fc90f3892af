"""Writing blobs: ingest, resumption and publishing."""
