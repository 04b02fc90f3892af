"""Who holds the key-encryption keys."""
