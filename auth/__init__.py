"""The token authority: single-use, node-bound pull tokens. Knows nothing of storage."""
