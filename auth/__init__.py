"""Token authority: single-use, node-bound pull tokens. Independent of storage."""
