"""Token ledger on Redis, with one Lua script per transition (docs/tokens.md, "The ledger")."""

from auth.ledger.address import LedgerAddress, LedgerAddressError, Topology
from auth.ledger.connect import LedgerClient, connect
from auth.ledger.limits import LedgerLimits
from auth.ledger.redis_ledger import RedisTokenLedger

__all__ = [
    "LedgerAddress",
    "LedgerAddressError",
    "LedgerClient",
    "LedgerLimits",
    "RedisTokenLedger",
    "Topology",
    "connect",
]
