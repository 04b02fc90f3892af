"""Short-lived state in Redis: credentials, progress, rate limits and sessions."""
