"""Encrypted, content-addressed blob storage. Knows nothing of registries or tokens."""
