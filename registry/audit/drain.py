"""Transfer of the events that redemptions record in the ledger to the audit trail (docs/adr/0053)."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from auth.errors import LedgerUnavailableError
from auth.ledger.stream import EventStream, LedgerEvent
from auth.ports import AuditEvent
from registry.errors import CatalogUnavailableError

PAUSE_S = 0.5
_BATCH = 250
_LAST_S = 5.0
_UNAVAILABLE = (LedgerUnavailableError, CatalogUnavailableError)
_log = structlog.get_logger(__name__)


class EventDrain:
    """Stores events in the audit trail, then removes them from the ledger. No event is lost or stored twice.

    Args:
        stream: The events in the ledger.
        store: Stores a batch durably, skipping events that it already has.
        count: Counts an event for the metrics.
    """

    def __init__(
        self,
        stream: EventStream,
        store: Callable[[Sequence[LedgerEvent]], Awaitable[None]],
        count: Callable[[AuditEvent], None],
    ) -> None:
        self._stream = stream
        self._store = store
        self._count = count
        self._holder = secrets.token_hex(8)

    async def run(self) -> None:
        """Drain until cancelled, then once more for the events of the last requests."""
        task = asyncio.current_task()
        try:
            while task is None or not task.cancelling():  # a client library can lose a cancellation
                await self._pass()
                await asyncio.sleep(PAUSE_S)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_S):
                    await self._pass()

    async def _pass(self) -> None:
        """Drain every stream once, unless another process holds the lease. Failures are only logged."""
        try:
            if not await self._stream.hold(self._holder):
                return
        except LedgerUnavailableError as error:
            _log.warning("events.not_drained", reason=str(error))
            return
        for name in self._stream.names:
            try:
                await self.drain(name)
            except _UNAVAILABLE as error:  # on a cluster, other streams may be available
                _log.warning("events.not_drained", reason=str(error))

    async def drain(self, name: str) -> None:
        """Move the events of one stream until it has none waiting."""
        stored: Sequence[LedgerEvent] = ()
        while True:
            waiting = await self._stream.next(name, stored, _BATCH)
            for each in stored:
                self._count(each.event)
            if not waiting:
                return
            await self._store(waiting)
            stored = waiting
