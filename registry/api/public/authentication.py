"""Who calls the public API: a customer by API key, or the operator."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from auth.errors import Cause, OutsideScopeError, RefusedError
from registry.ports import OrganizationDirectory

HEADER = "Salad-Api-Key"
MAX_KEY_LENGTH = 512


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


def hash_api_key(key: str) -> bytes:
    """Hash an API key for storage and look-up.

    A plain SHA-256 does: keys are 256 random bits, which no dictionary holds, and a look-up by the hash
    tells by its timing nothing that helps to find one.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class ApiKeyAuthenticator:
    """Tells callers by their key.

    Args:
        is_operator_key: Compares with the operator's key in constant time.
    """

    def __init__(
        self, *, organizations: OrganizationDirectory, is_operator_key: Callable[[str], bool]
    ) -> None:
        self._organizations = organizations
        self._is_operator_key = is_operator_key

    async def __call__(self, key: str | None) -> Caller:
        """Return whose key this is.

        Raises:
            RefusedError: There is no key, or it is nobody's.
        """
        if not key or len(key) > MAX_KEY_LENGTH:
            raise RefusedError(Cause.MALFORMED)
        if self._is_operator_key(key):
            return Caller(organization=None)
        organization = await self._organizations.by_api_key(hash_api_key(key))
        if organization is None:
            raise RefusedError(Cause.UNKNOWN)
        return Caller(organization=organization.name)
