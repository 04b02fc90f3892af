"""Rate limits on audit events that unauthenticated clients can cause (docs/tokens.md, "The audit trail")."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from auth.audit import AuthEventType
from auth.errors import AuthError, Cause
from auth.ports import AuditEvent, AuditTrail
from registry.audit.types import RegistryEventType
from registry.errors import RegistryError

WINDOW_S = 60.0

# Causes that need no valid token; all other refusals require a token with a valid signature.
_UNAUTHENTICATED = frozenset({Cause.MALFORMED, Cause.FORGED, Cause.NOT_YET_VALID})
_BOUNDED = frozenset(
    {
        AuthEventType.TOKEN_REFUSED,
        AuthEventType.TOKEN_EXCHANGED,
        AuthEventType.NODE_REFUSED,
        RegistryEventType.PORTAL_REFUSED,
        RegistryEventType.API_KEY_REFUSED,
    }
)
_WITHOUT_TOKEN = frozenset(
    {AuthEventType.NODE_REFUSED, RegistryEventType.API_KEY_REFUSED, RegistryEventType.PORTAL_REFUSED}
)
_IPV6_SITE = 64
_MANY = "many"


@dataclass(frozen=True, slots=True)
class ThrottleLimits:
    """Maximum numbers of refusals and repeated exchanges that one process records per minute.

    Attributes:
        alike: Events of one cause from one source (unauthenticated) or with one token.
        unauthenticated: All events from unauthenticated clients.
        kinds: Kinds of suppressed events that are summarized separately.
    """

    alike: int = 30
    unauthenticated: int = 120
    kinds: int = 64


class ThrottledAuditTrail:
    """Summarizes repeated refusals and exchanges in one event per minute and kind; forwards all others.

    Args:
        trail: Receives the events.
        window_s: Length of the window.
    """

    def __init__(
        self, trail: AuditTrail, limits: ThrottleLimits | None = None, *, window_s: float = WINDOW_S
    ) -> None:
        self._trail = trail
        self._limits = limits or ThrottleLimits()
        self._window_s = window_s
        self._window_ends = 0.0
        self._written: Counter[tuple[str, str]] = Counter()
        self._unauthenticated = 0
        self._suppressed: dict[tuple[str, str], tuple[AuditEvent, int]] = {}
        self._summing: asyncio.Task[None] | None = None

    async def record(self, event: AuditEvent) -> None:
        """Record one event durably; beyond the limits, count it for the next summary."""
        if event.type in _BOUNDED and not self._admits(event):
            return
        await self._trail.record(event)

    async def aclose(self) -> None:
        """Record the remaining summaries."""
        if self._summing is not None:
            self._summing.cancel()
            with suppress(asyncio.CancelledError):
                await self._summing
        await self._sum_up()

    def _admits(self, event: AuditEvent) -> bool:
        if time.monotonic() >= self._window_ends:
            self._written.clear()
            self._unauthenticated = 0
            self._window_ends = time.monotonic() + self._window_s
        unauthenticated = event.cause in _UNAUTHENTICATED or event.type in _WITHOUT_TOKEN
        cause = event.cause or event.type
        kind = (cause, site_of(event.source) if unauthenticated else event.token_id or event.node_id or "")
        full = unauthenticated and self._unauthenticated >= self._limits.unauthenticated
        if full or self._written[kind] >= self._limits.alike:
            self._suppress(kind, event)
            return False
        self._written[kind] += 1
        self._unauthenticated += unauthenticated
        return True

    def _suppress(self, kind: tuple[str, str], event: AuditEvent) -> None:
        if kind not in self._suppressed and len(self._suppressed) >= self._limits.kinds:
            kind = (kind[0], _MANY)
            event = replace(event, organization=None, source=None, token_id=None, node_id=None)
        first, count = self._suppressed.get(kind, (event, 0))
        self._suppressed[kind] = (first, count + 1)
        if self._summing is None or self._summing.done():
            self._summing = asyncio.create_task(self._later())

    async def _later(self) -> None:
        await asyncio.sleep(max(0.0, self._window_ends - time.monotonic()))
        await self._sum_up()

    async def _sum_up(self) -> None:
        suppressed, self._suppressed = self._suppressed, {}
        for event, count in suppressed.values():
            with suppress(AuthError, RegistryError):  # the metrics already include them
                await self._trail.record(replace(event, detail={**event.detail, "suppressed": count}))


def site_of(source: str | None) -> str:
    """Return the source address; for IPv6 its /64 network, because one client may own all its addresses."""
    try:
        address = ip_address(source or "")
    except ValueError:
        return source or ""
    return str(ip_network((address, _IPV6_SITE), strict=False)) if address.version != 4 else str(address)  # noqa: PLR2004
