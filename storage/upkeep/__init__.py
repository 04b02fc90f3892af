"""Maintenance of storage: garbage collection, scrubbing and key rotation."""
