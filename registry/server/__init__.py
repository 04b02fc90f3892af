"""Running the server: first start, the embedded ledger, processes and signals."""
