"""Image references, descriptors, manifests and indexes: pure documents of the OCI image specification."""
