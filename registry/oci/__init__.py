"""Image references and documents of the OCI image specification: manifests, indexes, configs. No I/O."""
