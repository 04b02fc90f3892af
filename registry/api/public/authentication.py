"""Who calls the public API: a customer by API key, or the operator."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from auth.errors import Cause, OutsideScopeError, RefusedError
from registry.ephemeral.rate_limits import RedisRateLimiter
from registry.errors import RateLimitedError
from registry.services.api_keys import MAX_KEY_LENGTH, ApiKeys

HEADER = "Salad-Api-Key"


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller.

    Attributes:
        organization: The customer whose key was shown; None for the operator, who reaches all of them.
    """

    organization: str | None

    def require(self, organization: str) -> None:
        """Refuse another customer's organization alike whether it exists or not.

        Raises:
            OutsideScopeError: The caller does not belong to it.
        """
        if self.organization not in (None, organization):
            raise OutsideScopeError(Cause.OUTSIDE_SCOPE)


Authenticate = Callable[[str | None], Awaitable[Caller]]


class ApiKeyAuthenticator:
    """Tells callers by their key, and holds each customer's key to its rate.

    Args:
        is_operator_key: Compares with the operator's key in constant time.
        rates: Counts requests by key; None counts none. The operator's are not counted.
    """

    def __init__(
        self, *, keys: ApiKeys, is_operator_key: Callable[[str], bool], rates: RedisRateLimiter | None = None
    ) -> None:
        self._keys = keys
        self._is_operator_key = is_operator_key
        self._rates = rates

    async def __call__(self, shown: str | None) -> Caller:
        """Return whose key this is.

        Raises:
            RefusedError: There is no key, or it is nobody's, or revoked.
            RateLimitedError: It asks too often.
        """
        if not shown or len(shown) > MAX_KEY_LENGTH:
            raise RefusedError(Cause.MALFORMED)
        if self._is_operator_key(shown):
            return Caller(organization=None)
        key = await self._keys.find(shown)
        if key is None:
            raise RefusedError(Cause.UNKNOWN)
        if self._rates is not None and (wait_s := await self._rates.take(key.key_id)) > 0:
            raise RateLimitedError(wait_s)
        return Caller(organization=key.organization)
