"""Who wraps data keys: adapters of `storage.ports.KeyProvider`."""
