"""What lives only while an import runs: sealed credentials and progress, in Redis."""
