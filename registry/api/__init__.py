"""HTTP surfaces: OCI distribution, the public API, the operator API."""
