"""Encrypted, content-addressed blob storage. Independent of registry protocols and tokens."""
