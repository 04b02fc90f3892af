"""Reading blobs: unwrapping keys, opening containers."""
