"""Authentication of the public API's callers: customers and the operator."""

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
        organization: The customer who owns the key; None for the operator, who has access to all.
    """

    organization: str | None

    def require(self, organization: str) -> None:
        """Check access to an organization. The refusal does not reveal whether it exists.

        Raises:
            OutsideScopeError: The caller has no access to it.
        """
        if self.organization not in (None, organization):
            raise OutsideScopeError(Cause.OUTSIDE_SCOPE)


Authenticate = Callable[[str | None], Awaitable[Caller]]


class ApiKeyAuthenticator:
    """Authenticates callers by API key, with a rate limit for each customer's key.

    Args:
        is_operator_key: Compares a key with the operator's key in constant time.
        rates: Rate limit by key; None is no limit. The operator has no limit.
    """

    def __init__(
        self, *, keys: ApiKeys, is_operator_key: Callable[[str], bool], rates: RedisRateLimiter | None = None
    ) -> None:
        self._keys = keys
        self._is_operator_key = is_operator_key
        self._rates = rates

    async def __call__(self, shown: str | None) -> Caller:
        """Return the owner of the request's key.

        Raises:
            RefusedError: The key is missing, unknown or revoked.
            RateLimitedError: The key has reached its rate limit.
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
