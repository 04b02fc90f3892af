"""Node identity: the certificate authority for nodes."""
