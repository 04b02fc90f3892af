"""Key providers: adapters for `storage.ports.KeyProvider`."""
