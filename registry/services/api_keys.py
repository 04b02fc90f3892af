"""The use-cases of organizations' API keys: create, list, revoke, look up."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from auth.audit import EventType
from auth.ports import AuditEvent, Clock
from auth.secret import Secret
from registry.audit.types import RegistryEventType
from registry.catalog.api_keys import SqlApiKeyDirectory
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.errors import NotFoundError
from registry.model.api_keys import ApiKey
from registry.model.organizations import Organization

FIRST: Final = "first"
MAX_KEYS: Final = 50
MAX_KEY_LENGTH: Final = 512

_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key that was just created; `secret` is shown once and kept nowhere."""

    key: ApiKey
    secret: Secret


class ApiKeys:
    """The organizations' keys to the public API."""

    def __init__(
        self,
        *,
        keys: SqlApiKeyDirectory,
        organizations: SqlOrganizationDirectory,
        clock: Clock,
    ) -> None:
        self._keys = keys
        self._organizations = organizations
        self._clock = clock

    async def create_organization(self, name: str, *, source: str | None = None) -> NewApiKey:
        """Create an organization with its first key. Raises ConflictError: the name is taken."""
        made = self._new(name, FIRST)
        await self._organizations.add(
            Organization(name, made.key.created_at),
            AuditEvent(RegistryEventType.ORGANIZATION_CREATED, name, source=source),
            first_key=(made.key, hash_api_key(made.secret.reveal())),
        )
        return made

    async def create(self, organization: str, name: str, *, source: str | None = None) -> NewApiKey:
        """Create a further key.

        Raises:
            NotFoundError: There is no such organization.
            ConflictError: It has `MAX_KEYS` keys in use.
        """
        await self._require(organization)
        made = self._new(organization, name)
        created = _event(RegistryEventType.API_KEY_CREATED, made.key, source)
        await self._keys.add(made.key, hash_api_key(made.secret.reveal()), created, limit=MAX_KEYS)
        return made

    async def list(self, organization: str) -> Sequence[ApiKey]:
        """Return an organization's keys, oldest first, revoked ones included. Raises NotFoundError."""
        await self._require(organization)
        return await self._keys.list(organization)

    async def revoke(self, organization: str, key_id: str, *, source: str | None = None) -> None:
        """Revoke a key from the next request on. Raises NotFoundError: the organization has no such key."""
        key = next((key for key in await self._keys.list(organization) if key.key_id == key_id), None)
        if key is None:
            raise NotFoundError("the organization has no such key")
        await self._keys.revoke(key, _event(RegistryEventType.API_KEY_REVOKED, key, source))

    async def whose(self, shown: str) -> ApiKey | None:
        """Return the key that was shown, unless it is nobody's or revoked."""
        if not shown or len(shown) > MAX_KEY_LENGTH:
            return None
        return await self._keys.by_hash(hash_api_key(shown))

    def _new(self, organization: str, name: str) -> NewApiKey:
        secret = Secret(f"crisper_key_{secrets.token_urlsafe(_KEY_BYTES)}")
        return NewApiKey(ApiKey(str(uuid4()), organization, name, self._clock.now()), secret)

    async def _require(self, organization: str) -> None:
        if await self._organizations.get(organization) is None:
            raise NotFoundError(f"there is no organization named {organization!r}")


def _event(type_: EventType, key: ApiKey, source: str | None) -> AuditEvent:
    return AuditEvent(type_, key.organization, source=source, detail={"key_id": key.key_id, "name": key.name})


def hash_api_key(key: str) -> bytes:
    """Hash an API key for storage and look-up.

    A plain SHA-256 does: keys are 256 random bits, which no dictionary holds, and a look-up by the hash
    tells by its timing nothing that helps to find one.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
