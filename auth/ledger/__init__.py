"""The token ledger: every transition is one script inside Redis (docs/tokens.md, "The ledger")."""

from auth.ledger.connect import connect
from auth.ledger.limits import LedgerLimits
from auth.ledger.redis_ledger import RedisTokenLedger

__all__ = ["LedgerLimits", "RedisTokenLedger", "connect"]
