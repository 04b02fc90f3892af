"""The token ledger: every transition is one script inside Redis."""
