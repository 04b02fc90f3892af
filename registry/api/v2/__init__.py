"""The OCI distribution API under `/v2/`, pull only."""
