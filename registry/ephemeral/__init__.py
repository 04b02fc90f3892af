"""What lives for a while, in Redis: sealed credentials, progress, rates, sessions."""
