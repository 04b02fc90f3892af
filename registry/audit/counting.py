"""Metrics of the token transitions and refusals that enter the audit trail."""

from functools import cache

from auth.audit import AuthEventType
from auth.ports import AuditEvent, AuditTrail
from registry.observe import Metrics


class CountingAuditTrail:
    """Counts events for the metrics, then forwards them to another audit trail."""

    def __init__(self, trail: AuditTrail, metrics: Metrics) -> None:
        self._trail = trail
        self._metrics = metrics
        self._tokens = cache(metrics.tokens.labels)  # labels() takes a lock on every call

    async def record(self, event: AuditEvent) -> None:
        """Count one event and record it durably."""
        self.count(event)
        await self._trail.record(event)

    def count(self, event: AuditEvent) -> None:
        """Count an event that is recorded elsewhere."""
        if event.type is AuthEventType.TOKEN_REFUSED:
            self._metrics.refusals.labels(event.cause or "unknown").inc()
        elif event.type.family == "token":
            self._tokens(event.type.removeprefix("token.")).inc()
