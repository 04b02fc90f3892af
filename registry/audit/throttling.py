"""Keeps strangers from filling the audit trail (docs/tokens.md, "The audit trail")."""

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

# Anybody can bring these about; every other refusal takes a token that we have signed.
_ANYBODY = frozenset({Cause.MALFORMED, Cause.FORGED, Cause.NOT_YET_VALID})
_BOUNDED = frozenset(
    {
        AuthEventType.TOKEN_REFUSED,
        AuthEventType.TOKEN_EXCHANGED,
        AuthEventType.NODE_REFUSED,
        RegistryEventType.PORTAL_REFUSED,
    }
)
_IPV6_SITE = 64
_MANY = "many"


@dataclass(frozen=True, slots=True)
class ThrottleLimits:
    """How many refusals and repeated exchanges one process writes in a minute.

    Attributes:
        alike: Of one cause, from one source (by anybody) or with one token.
        anybody: By anybody, in all.
        kinds: Kinds of suppressed refusals that are summed up apart.
    """

    alike: int = 30
    anybody: int = 120
    kinds: int = 64


class ThrottledAuditTrail:
    """Sums up refusals and exchanges that repeat, one event a minute and kind; passes everything else on.

    Args:
        trail: Where events go.
        window_s: The minute.
    """

    def __init__(
        self, trail: AuditTrail, limits: ThrottleLimits | None = None, *, window_s: float = WINDOW_S
    ) -> None:
        self._trail = trail
        self._limits = limits or ThrottleLimits()
        self._window_s = window_s
        self._window_ends = 0.0
        self._written: Counter[tuple[str, str]] = Counter()
        self._by_anybody = 0
        self._suppressed: dict[tuple[str, str], tuple[AuditEvent, int]] = {}
        self._summing: asyncio.Task[None] | None = None

    async def record(self, event: AuditEvent) -> None:
        """Append one event durably; or, beyond the limits, count it into the next sum."""
        if event.type in _BOUNDED and not self._admits(event):
            return
        await self._trail.record(event)

    async def aclose(self) -> None:
        """Write what is left to sum up."""
        if self._summing is not None:
            self._summing.cancel()
            with suppress(asyncio.CancelledError):
                await self._summing
        await self._sum_up()

    def _admits(self, event: AuditEvent) -> bool:
        if time.monotonic() >= self._window_ends:
            self._written.clear()
            self._by_anybody = 0
            self._window_ends = time.monotonic() + self._window_s
        by_anybody = event.cause in _ANYBODY or event.type is AuthEventType.NODE_REFUSED
        cause = event.cause or event.type
        kind = (cause, _site(event.source) if by_anybody else event.token_id or event.node_id or "")
        full = by_anybody and self._by_anybody >= self._limits.anybody
        if full or self._written[kind] >= self._limits.alike:
            self._suppress(kind, event)
            return False
        self._written[kind] += 1
        self._by_anybody += by_anybody
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
            with suppress(AuthError, RegistryError):  # the metric has counted them
                await self._trail.record(replace(event, detail={**event.detail, "suppressed": count}))


def _site(source: str | None) -> str:
    """Return a source as one who can choose addresses is known by: an IPv6 site is one."""
    try:
        address = ip_address(source or "")
    except ValueError:
        return source or ""
    return str(ip_network((address, _IPV6_SITE), strict=False)) if address.version != 4 else str(address)  # noqa: PLR2004
