"""Refused API and operator keys: recorded in the audit trail, and limited in their rate by source."""

from typing import Final, NoReturn

from auth.errors import Cause, RefusedError
from auth.ports import AuditEvent, AuditTrail
from registry.audit.throttling import site_of
from registry.audit.types import RegistryEventType
from registry.ephemeral.rate_limits import RedisRateLimiter
from registry.errors import RateLimitedError

REFUSALS_PER_MINUTE: Final = 60


class KeyRefusals:
    """Refuses keys. Valid keys are never limited, even if their source has sent wrong ones.

    Args:
        trail: Records refusals, with its own limits.
        rates: Limits the refusals of a source; an IPv6 /64 counts as one.
    """

    def __init__(self, trail: AuditTrail, rates: RedisRateLimiter) -> None:
        self._trail = trail
        self._rates = rates

    async def refuse(self, cause: Cause, *, api: str, source: str) -> NoReturn:
        """Record a refusal, and raise its error.

        Args:
            api: The API that the key was sent to: `public`, `operator` or `edge`.

        Raises:
            RefusedError: Always, except if there were too many refusals.
            RateLimitedError: The source has sent too many keys that were refused.
        """
        refused = RegistryEventType.API_KEY_REFUSED
        await self._trail.record(AuditEvent(refused, cause=cause.value, source=source, detail={"api": api}))
        if (wait_s := await self._rates.take(f"refused:{site_of(source)}")) > 0:
            raise RateLimitedError(wait_s)
        raise RefusedError(cause)
