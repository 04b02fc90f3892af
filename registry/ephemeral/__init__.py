"""Short-lived state in Redis: credentials, progress, rate limits, sessions and leases."""
