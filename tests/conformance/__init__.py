"""The official conformance suite of the OCI distribution specification, read-only, over imported images."""
