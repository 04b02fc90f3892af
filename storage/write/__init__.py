"""Writing of blobs: ingest, resumption and publication."""
