"""Reading of blobs: unwraps data keys and opens containers."""
