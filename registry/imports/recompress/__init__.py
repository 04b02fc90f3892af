"""Recompression: unpacks layers, checks them against the config, encodes them in zstd."""
