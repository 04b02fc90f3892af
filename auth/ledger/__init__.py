"""Token ledger on Redis, with one Lua script per transition (docs/tokens.md, "The ledger")."""

from auth.ledger.address import LedgerAddress, LedgerAddressError, Topology
from auth.ledger.connect import LedgerClient, connect
from auth.ledger.limits import LedgerLimits
from auth.ledger.redis_ledger import RedisTokenLedger
from auth.ledger.replicated_store import ReplicatedStore
from auth.ledger.stream import EventStream, LedgerEvent

__all__ = [
    "EventStream",
    "LedgerAddress",
    "LedgerAddressError",
    "LedgerClient",
    "LedgerEvent",
    "LedgerLimits",
    "RedisTokenLedger",
    "ReplicatedStore",
    "Topology",
    "connect",
]
