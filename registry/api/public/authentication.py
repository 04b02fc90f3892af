"""Authentication of the public API's callers: customers and the operator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from auth.actor import OPERATOR_KEY, Actor, ActorKind
from auth.errors import Cause, OutsideScopeError, RefusedError
from registry.api.key_refusals import KeyRefusals
from registry.ephemeral.rate_limits import RedisRateLimiter
from registry.errors import AccessDeniedError, RateLimitedError
from registry.model.access import KeyScope
from registry.model.api_keys import ApiKey
from registry.services.api_keys import MAX_KEY_LENGTH, ApiKeys

HEADER = "Salad-Api-Key"
_API = "public"


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller.

    Attributes:
        organization: The customer who owns the key; None for the operator, who has access to all.
        scope: Scope of the key.
        actor: The key, for the audit trail.
    """

    organization: str | None
    scope: KeyScope = KeyScope.FULL
    actor: Actor | None = None

    def require(self, organization: str) -> None:
        """Check access to an organization. The refusal does not reveal whether it exists.

        Raises:
            OutsideScopeError: The caller has no access to it.
        """
        if self.organization not in (None, organization):
            raise OutsideScopeError(Cause.OUTSIDE_SCOPE)

    def require_scope(self, scope: KeyScope) -> None:
        """Check the scope of the key. Raises AccessDeniedError: it is a lesser one."""
        if not self.scope.includes(scope):
            raise AccessDeniedError(
                f"This API key has the scope {self.scope}, and the request needs {scope}. Use another "
                "key, or ask an owner of the organization for one."
            )


class Authenticate(Protocol):
    """Authenticates a request (`ApiKeyAuthenticator`)."""

    async def __call__(self, shown: str | None, *, source: str, changes: bool) -> Caller:
        """Return the owner of the request's key.

        Args:
            source: The caller's network address.
            changes: Whether the request may change something.
        """

    async def is_valid(self, shown: str | None) -> bool:
        """Return whether a key that was accepted is still valid."""


class ApiKeyAuthenticator:
    """Authenticates callers by API key, with rate limits for customers. The operator has no limit.

    Args:
        is_operator_key: Compares a key with the operator's key in constant time.
        refusals: Refuses wrong keys.
        rates: Rate limit of all requests by key; None is no limit.
        changes: Rate limit of changes by organization, which bounds what it adds to the audit trail; None is
            no limit.
    """

    def __init__(
        self,
        *,
        keys: ApiKeys,
        is_operator_key: Callable[[str], bool],
        refusals: KeyRefusals,
        rates: RedisRateLimiter | None = None,
        changes: RedisRateLimiter | None = None,
    ) -> None:
        self._keys = keys
        self._is_operator_key = is_operator_key
        self._refusals = refusals
        self._rates = rates
        self._changes = changes

    async def __call__(self, shown: str | None, *, source: str, changes: bool) -> Caller:
        """Return the owner of the request's key.

        Raises:
            RefusedError: The key is missing, unknown or revoked.
            RateLimitedError: The key, the organization or the source has reached a rate limit.
        """
        if not shown:
            raise RefusedError(Cause.MALFORMED)
        if len(shown) > MAX_KEY_LENGTH:
            await self._refusals.refuse(Cause.MALFORMED, api=_API, source=source)
        if self._is_operator_key(shown):
            return Caller(organization=None, actor=OPERATOR_KEY)
        key = await self._keys.find(shown)
        if key is None:
            await self._refusals.refuse(Cause.UNKNOWN, api=_API, source=source)
        await _take(self._rates, key.key_id, "This API key")
        if changes:
            await _take(self._changes, changes_of(key.organization), "The organization's number of changes")
        return caller_with(key)

    async def is_valid(self, shown: str | None) -> bool:
        """Return whether a key that was accepted is still valid. Counts no request."""
        return shown is not None and (
            self._is_operator_key(shown) or await self._keys.find(shown) is not None
        )


def caller_with(key: ApiKey) -> Caller:
    """Return the caller that an API key authenticates."""
    return Caller(key.organization, key.scope, Actor(ActorKind.API_KEY, key.key_id, key.name))


def changes_of(organization: str) -> str:
    """Return the name under which an organization's changes are counted."""
    return f"changes:{organization}"


async def _take(rates: RedisRateLimiter | None, caller: str, what: str) -> None:
    if rates is not None and (wait_s := await rates.take(caller)) > 0:
        message = f"{what} is over its rate limit. Retry after the time in Retry-After."
        raise RateLimitedError(wait_s, message)
