"""Encrypted containers: bytes in, bytes out."""
