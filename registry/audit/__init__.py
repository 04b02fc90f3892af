"""The audit trail: event types, throttling, counting."""
