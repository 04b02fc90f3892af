"""Garbage collection, scrubbing and key rotation."""
