"""The pull path: a reference to a descriptor, a descriptor to bytes."""
