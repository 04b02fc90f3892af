"""Object backends: adapters for `storage.ports.BlobBackend`."""
