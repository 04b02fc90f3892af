"""The use-cases of organizations' API keys: create, list, revoke, look up."""

import hashlib
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import uuid4

from cachetools import TTLCache

from auth.audit import EventType
from auth.ports import AuditEvent, Clock
from auth.secret import Secret
from registry.audit.types import RegistryEventType
from registry.catalog.api_keys import SqlApiKeyDirectory
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.errors import CatalogUnavailableError, NotFoundError
from registry.model.access import KeyScope
from registry.model.api_keys import ApiKey
from registry.model.organizations import Organization
from registry.services.quotas import OrganizationQuotas

FIRST: Final = "first"
MAX_KEY_LENGTH: Final = 512

_KEY_BYTES: Final = 32
_USE_EVERY: Final = timedelta(minutes=1)
_USES: Final = 4096


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A newly created key. `secret` is returned only here; the server does not store it."""

    key: ApiKey
    secret: Secret


class ApiKeys:
    """Manages the API keys of organizations, which authenticate them to the public API."""

    def __init__(
        self,
        *,
        keys: SqlApiKeyDirectory,
        organizations: SqlOrganizationDirectory,
        quotas: OrganizationQuotas,
        clock: Clock,
    ) -> None:
        self._keys = keys
        self._quotas = quotas
        self._organizations = organizations
        self._clock = clock
        self._recorded: TTLCache[str, bool] = TTLCache(
            _USES, _USE_EVERY.total_seconds(), timer=lambda: clock.now().timestamp()
        )

    async def create_organization(self, name: str, *, source: str | None = None) -> NewApiKey:
        """Create an organization with its first key. Raises ConflictError: the name is taken."""
        made = self._new(name, FIRST, KeyScope.FULL)
        await self._organizations.add(
            Organization(name, made.key.created_at),
            AuditEvent(RegistryEventType.ORGANIZATION_CREATED, name, source=source),
            first_key=(made.key, hash_api_key(made.secret.reveal())),
        )
        return made

    async def create(
        self, organization: str, name: str, scope: KeyScope = KeyScope.FULL, *, source: str | None = None
    ) -> NewApiKey:
        """Create an additional key.

        Raises:
            NotFoundError: There is no such organization.
            QuotaExceededError: The organization has too many keys that are not revoked.
        """
        await self._require(organization)
        made = self._new(organization, name, scope)
        created = _event(RegistryEventType.API_KEY_CREATED, made.key, source)
        limit = (await self._quotas.of(organization)).api_keys
        await self._keys.add(made.key, hash_api_key(made.secret.reveal()), created, limit=limit)
        return made

    async def list(self, organization: str) -> Sequence[ApiKey]:
        """Return an organization's keys, including revoked ones, oldest first. Raises NotFoundError."""
        await self._require(organization)
        return await self._keys.list(organization)

    async def revoke(self, organization: str, key_id: str, *, source: str | None = None) -> None:
        """Revoke a key with immediate effect. Raises NotFoundError: the organization has no such key."""
        key = next((key for key in await self._keys.list(organization) if key.key_id == key_id), None)
        if key is None:
            raise NotFoundError("the organization has no such key")
        await self._keys.revoke(key, _event(RegistryEventType.API_KEY_REVOKED, key, source))

    async def find(self, presented: str) -> ApiKey | None:
        """Return the key with this secret; None if it is unknown or revoked."""
        if not presented or len(presented) > MAX_KEY_LENGTH:
            return None
        return await self.by_hash(hash_api_key(presented))

    async def by_hash(self, key_hash: bytes) -> ApiKey | None:
        """Return the key with this hash, and record its use; None if it is unknown or revoked."""
        key = await self._keys.by_hash(key_hash)
        if key is not None:
            await self._record_use(key)
        return key

    async def _record_use(self, key: ApiKey) -> None:
        """Record a use at most once a minute. The request does not fail if that is not possible."""
        now = self._clock.now()
        recent = key.last_used_at is not None and now - key.last_used_at < _USE_EVERY
        if recent or key.key_id in self._recorded:
            return
        self._recorded[key.key_id] = True  # first, so that concurrent requests do not write as well
        with suppress(CatalogUnavailableError):
            await self._keys.touch(key.key_id, now, after=_USE_EVERY)

    def _new(self, organization: str, name: str, scope: KeyScope) -> NewApiKey:
        secret = Secret(f"crisper_key_{secrets.token_urlsafe(_KEY_BYTES)}")
        return NewApiKey(ApiKey(str(uuid4()), organization, name, self._clock.now(), scope=scope), secret)

    async def _require(self, organization: str) -> None:
        if await self._organizations.get(organization) is None:
            raise NotFoundError(f"there is no organization named {organization!r}")


def _event(type_: EventType, key: ApiKey, source: str | None) -> AuditEvent:
    detail = {"key_id": key.key_id, "name": key.name, "scope": key.scope.value}
    return AuditEvent(type_, key.organization, source=source, detail=detail)


def hash_api_key(key: str) -> bytes:
    """Hash an API key for storage and look-up.

    Plain SHA-256 is sufficient: keys have 256 random bits, so dictionary attacks are impossible, and the
    timing of a look-up by hash reveals nothing useful about the key.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
