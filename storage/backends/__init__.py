"""Where objects lie: adapters of `storage.ports.BlobBackend`."""
