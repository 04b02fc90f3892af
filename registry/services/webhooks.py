"""The use-cases of webhooks (docs/webhooks.md)."""

import base64
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from auth.audit import EventType
from auth.ports import AuditEvent, Clock
from auth.secret import Secret
from registry.audit.types import RegistryEventType
from registry.catalog.organizations import SqlOrganizationDirectory
from registry.catalog.webhooks import SqlWebhooks
from registry.errors import EgressRefusedError, InvalidInputError, NotFoundError
from registry.model.webhooks import SealedSecret, Webhook, organization_owner, secret_aad
from registry.services.quotas import OrganizationQuotas
from storage.ports import KeyProvider

_SECRET_BYTES: Final = 32  # the length that key providers wrap


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A newly registered endpoint.

    Attributes:
        secret: The secret that signs its messages. The server stores it encrypted.
    """

    webhook: Webhook
    secret: Secret


class WebhookSecrets:
    """Encrypts signing secrets under the key of the endpoint's organization."""

    def __init__(self, keys: KeyProvider) -> None:
        self._keys = keys

    async def seal(self, organization: str, owner: str, secret: bytes) -> SealedSecret:
        """Wrap a secret. Raises KeyUnavailableError."""
        kek_id = await self._keys.current_id(organization)
        return SealedSecret(owner, kek_id, await self._keys.wrap(kek_id, secret, secret_aad(owner)))

    async def open(self, sealed: SealedSecret) -> bytes:
        """Return a secret. Raises KeyUnavailableError or BlobDamagedError."""
        return await self._keys.unwrap(sealed.kek_id, sealed.wrapped, secret_aad(sealed.owner))


class Webhooks:
    """Registers, lists, enables and removes webhook endpoints.

    Args:
        vet: Checks a URL against the egress rules. Raises EgressRefusedError.
    """

    def __init__(
        self,
        *,
        catalog: SqlWebhooks,
        secrets: WebhookSecrets,
        organizations: SqlOrganizationDirectory,
        quotas: OrganizationQuotas,
        clock: Clock,
        vet: Callable[[str], None],
    ) -> None:
        self._catalog = catalog
        self._secrets = secrets
        self._organizations = organizations
        self._quotas = quotas
        self._clock = clock
        self._vet = vet

    async def secret_key(self, organization: str, *, source: str | None = None) -> bytes:
        """Return the key that signs the messages of the customer's webhooks. Creates it if there is none.

        Raises:
            NotFoundError: There is no such organization.
            KeyUnavailableError: The key provider does not answer.
        """
        await self._require(organization)
        if (sealed := await self._catalog.secret_key(organization)) is None:
            await self._new_secret_key(organization, source, replace=False)
            sealed = await self._catalog.secret_key(organization)
        if sealed is None:
            raise NotFoundError(f"There is no organization named {organization!r}.")
        return await self._secrets.open(sealed)

    async def renew_secret_key(self, organization: str, *, source: str | None = None) -> bytes:
        """Replace the key that signs the messages of the customer's webhooks, and return the new one.

        Raises:
            NotFoundError: There is no such organization.
            KeyUnavailableError: The key provider does not answer.
        """
        await self._require(organization)
        return await self._new_secret_key(organization, source, replace=True)

    async def register(
        self,
        organization: str,
        url: str,
        types: Sequence[str],
        *,
        with_organization_key: bool = False,
        source: str | None = None,
    ) -> NewWebhook:
        """Register an endpoint. It receives only later events.

        Args:
            with_organization_key: Whether the organization's secret key signs its messages, else its own.

        Raises:
            NotFoundError: There is no such organization.
            InvalidInputError: The egress rules forbid the URL.
            QuotaExceededError: The organization has too many endpoints.
        """
        await self._require(organization)
        try:
            self._vet(url)
        except EgressRefusedError as error:
            raise InvalidInputError("Messages cannot be sent to this URL.", {"url": [str(error)]}) from None
        webhook = Webhook(str(uuid4()), organization, url, tuple(types), self._clock.now())
        sealed = None
        if with_organization_key:
            secret = await self.secret_key(organization, source=source)
        else:
            secret = os.urandom(_SECRET_BYTES)
            sealed = await self._secrets.seal(organization, webhook.webhook_id, secret)
        created = _event(RegistryEventType.WEBHOOK_CREATED, webhook, source)
        limit = (await self._quotas.of(organization)).webhooks
        await self._catalog.add(webhook, sealed, created, limit=limit)
        return NewWebhook(webhook, Secret(f"whsec_{base64.b64encode(secret).decode()}"))

    async def list(self, organization: str) -> Sequence[Webhook]:
        """Return an organization's endpoints, oldest first. Raises NotFoundError."""
        await self._require(organization)
        return await self._catalog.list(organization)

    async def get(self, organization: str, webhook_id: str) -> Webhook:
        """Return an endpoint. Raises NotFoundError."""
        webhook = await self._catalog.get(organization, webhook_id)
        if webhook is None:
            raise NotFoundError("the organization has no such webhook")
        return webhook

    async def enable(self, organization: str, webhook_id: str, *, source: str | None = None) -> Webhook:
        """Enable a disabled endpoint; it receives only later events. Raises NotFoundError."""
        webhook = await self.get(organization, webhook_id)
        await self._catalog.enable(webhook, _event(RegistryEventType.WEBHOOK_ENABLED, webhook, source))
        return await self.get(organization, webhook_id)

    async def remove(self, organization: str, webhook_id: str, *, source: str | None = None) -> None:
        """Remove an endpoint and its pending messages. Raises NotFoundError."""
        webhook = await self.get(organization, webhook_id)
        await self._catalog.remove(webhook, _event(RegistryEventType.WEBHOOK_REMOVED, webhook, source))

    async def _new_secret_key(self, organization: str, source: str | None, *, replace: bool) -> bytes:
        secret = os.urandom(_SECRET_BYTES)
        sealed = await self._secrets.seal(organization, organization_owner(organization), secret)
        event = AuditEvent(RegistryEventType.WEBHOOK_KEY_RENEWED, organization, source=source)
        await self._catalog.store_secret_key(organization, sealed, event, replace=replace)
        return secret

    async def _require(self, organization: str) -> None:
        if await self._organizations.get(organization) is None:
            raise NotFoundError(f"There is no organization named {organization!r}.")


def _event(type_: EventType, webhook: Webhook, source: str | None) -> AuditEvent:
    detail = {"webhook_id": webhook.webhook_id, "url": webhook.url}
    return AuditEvent(type_, webhook.organization, source=source, detail=detail)
