"""Counts token transitions and refusals on their way into the audit trail."""

from functools import cache

from auth.audit import AuthEventType
from auth.ports import AuditEvent, AuditTrail
from registry.observe import Metrics


class CountingAuditTrail:
    """Counts events, then passes them on."""

    def __init__(self, trail: AuditTrail, metrics: Metrics) -> None:
        self._trail = trail
        self._metrics = metrics
        self._tokens = cache(metrics.tokens.labels)  # otherwise looked up behind a lock

    async def record(self, event: AuditEvent) -> None:
        """Append one event durably."""
        if event.type is AuthEventType.TOKEN_REFUSED:
            self._metrics.refusals.labels(event.cause or "unknown").inc()
        elif event.type.family == "token":
            self._tokens(event.type.removeprefix("token.")).inc()
        await self._trail.record(event)
