"""Server processes: first start, the embedded ledger, workers and signals."""
