"""Client for customers' registries (OCI distribution-spec), with an egress guard."""
