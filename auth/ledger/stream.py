"""Events of redemptions in the ledger, which wait for their move to the catalog (docs/adr/0053)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import RedisCluster

from auth.audit import AuthEventType
from auth.ledger.connect import LedgerClient
from auth.ledger.keys import LedgerKeys
from auth.ledger.scripts import Script, ScriptRunner
from auth.ports import AuditEvent

_TYPES = {each.value: each for each in AuthEventType}
_DRAIN, _HOLD = Script("drain"), Script("hold")
_LEASE_KEY = "pte:drainer"
_LEASE_S = 3.0
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode  # not orjson, which refuses lone surrogates


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """An event in the ledger.

    Attributes:
        entry_id: Id of its entry in the stream.
        event_id: Id of the event; the same if it was appended twice.
    """

    entry_id: str
    event_id: str
    at: datetime
    event: AuditEvent


class EventStream:
    """Reads events, and removes them once they are stored elsewhere.

    Args:
        redis: Client from `auth.ledger.connect`; the caller closes it.

    Attributes:
        names: Names of the streams: one, or one per shard of a cluster.
    """

    def __init__(self, redis: LedgerClient, *, timeout_s: float = 4) -> None:
        self._runner = ScriptRunner(redis, timeout_s=timeout_s)
        self.names = LedgerKeys(sharded=isinstance(redis, RedisCluster)).streams

    async def hold(self, holder: str) -> bool:
        """Take or extend the lease for draining. Returns False if another process has it.

        The lease only saves work. Draining by two processes at the same time is safe.
        """
        return bool(await self._runner.run(_HOLD, [_LEASE_KEY], holder, round(_LEASE_S * 1000)))

    async def next(self, name: str, stored: Sequence[LedgerEvent], most: int) -> Sequence[LedgerEvent]:
        """Remove stored events, and return the oldest remaining ones.

        Args:
            name: One of `names`.
            stored: Events of this stream that are durable elsewhere.
            most: Maximum number of events to return.
        """
        done = [part for event in stored for part in (event.entry_id, event.event_id)]
        return [_decode(*entry) for entry in await self._runner.run(_DRAIN, [name], most, *done)]

    async def aclose(self) -> None:
        """Wait for all replies. Call after the last call, and before closing the client."""
        await self._runner.aclose()


def encode_event(event: AuditEvent) -> str:
    """Encode an event for `redeem.lua`, without type and cause: the script sets the type."""
    return _ENCODE(
        {
            "organization": event.organization,
            "token_id": event.token_id,
            "node_id": event.node_id,
            "source": event.source,
            "detail": dict(event.detail),
        }
    )


def _decode(entry_id: bytes, pairs: Sequence[bytes]) -> LedgerEvent:
    fields: dict[bytes, bytes] = dict(zip(pairs[::2], pairs[1::2], strict=True))
    facts: dict[str, Any] = json.loads(fields[b"event"])
    return LedgerEvent(
        entry_id=entry_id.decode(),
        event_id=fields[b"id"].decode(),
        at=datetime.fromtimestamp(int(entry_id.partition(b"-")[0]) / 1000, UTC),
        event=AuditEvent(_TYPES[fields[b"type"].decode()], **facts),
    )
