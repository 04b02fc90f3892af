"""The public API's webhooks and the secret key that signs their messages ("WebhookSecretKey")."""

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, ClassVar, Final

from pydantic import Field, StringConstraints

from registry.api.endpoint import Call, Endpoint
from registry.api.public.application import ORGANIZATION, READ, WRITE
from registry.api.public.shapes import Omittable, Shape, Uuid
from registry.model import webhooks as model
from registry.model.access import KeyScope
from registry.services import webhooks

_ALL: Final = f"{ORGANIZATION}/webhooks"
_ONE: Final = f"{_ALL}/{{webhook_id}}"
_KEY: Final = f"{ORGANIZATION}/webhook-secret-key"

EventType = Annotated[str, StringConstraints(pattern=rf"^({'|'.join(model.FAMILIES)})\.([a-z_]{{1,32}}|\*)$")]


class WebhookSecretKey(Shape):
    """The key that signs the messages of all webhooks of the public API: 32 bytes in base64."""

    secret_key: Annotated[
        str, StringConstraints(min_length=44, max_length=172, pattern=r"^[+/=0-9A-Za-z]{44,172}$")
    ]


class NewWebhook(Shape):
    """An endpoint that receives an organization's events.

    Attributes:
        url: An https URL with a public address.
        types: Event types, or families: `group.*`, `instance.*`, `token.*`; empty means all.
    """

    url: Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=r"^https?://[\x21-\x7e]+$")]
    types: Annotated[list[EventType], Field(max_length=64)] = Field(default_factory=list)


class Webhook(Shape):
    """A webhook and the state of its deliveries."""

    id: Uuid
    url: str
    types: list[str]
    create_time: datetime
    delivery_time: Omittable[datetime] = None
    failing_since_time: Omittable[datetime] = None
    disable_time: Omittable[datetime] = None
    last_failure: Omittable[str] = None

    @classmethod
    def of(cls, webhook: model.Webhook) -> "Webhook":
        """Present a webhook."""
        return cls(
            id=webhook.webhook_id,
            url=webhook.url,
            types=list(webhook.types),
            create_time=webhook.created_at,
            delivery_time=webhook.delivered_at,
            failing_since_time=webhook.failing_since,
            disable_time=webhook.disabled_at,
            last_failure=webhook.last_failure,
        )


class WebhookCollection(Shape):
    """An organization's webhooks, oldest first."""

    items: list[Webhook]

    @classmethod
    def of(cls, found: Sequence[model.Webhook]) -> "WebhookCollection":
        """Present webhooks in the given order."""
        return cls(items=[Webhook.of(webhook) for webhook in found])


class WebhooksApi:
    """Operations on an organization's webhooks and their secret key."""

    tag: ClassVar[str] = "webhooks"

    def __init__(self, service: webhooks.Webhooks) -> None:
        self._webhooks = service

    @Endpoint("GET", _KEY, "The key.", errors=WRITE, scope=KeyScope.FULL)
    async def get_webhook_secret_key(self, call: Call[None]) -> WebhookSecretKey:
        """Get the secret key of the organization's webhooks. The first request creates it."""
        return _key(await self._webhooks.secret_key(call.path("organization_name"), source=call.source))

    @Endpoint("POST", _KEY, "The new key.", errors=WRITE, scope=KeyScope.FULL)
    async def update_webhook_secret_key(self, call: Call[None]) -> WebhookSecretKey:
        """Replace the secret key of the organization's webhooks.

        All messages that are sent from now on are signed with the new key.
        """
        return _key(await self._webhooks.renew_secret_key(call.path("organization_name"), source=call.source))

    @Endpoint("POST", _ALL, "The webhook.", status=201, errors=WRITE, scope=KeyScope.FULL)
    async def create_customer_webhook(self, call: Call[NewWebhook]) -> Webhook:
        """Create a webhook.

        Its messages are signed with the organization's webhook secret key.
        """
        made = await self._webhooks.register(
            call.path("organization_name"),
            call.body.url,
            call.body.types,
            with_organization_key=True,
            source=call.source,
        )
        return Webhook.of(made.webhook)

    @Endpoint("GET", _ALL, "The organization's webhooks, oldest first.", errors=READ)
    async def list_customer_webhooks(self, call: Call[None]) -> WebhookCollection:
        """List webhooks."""
        return WebhookCollection.of(await self._webhooks.list(call.path("organization_name")))

    @Endpoint("GET", _ONE, "The webhook.", errors=READ)
    async def get_customer_webhook(self, call: Call[None]) -> Webhook:
        """Get a webhook."""
        return Webhook.of(await self._webhooks.get(*_named(call)))

    @Endpoint("DELETE", _ONE, "Done.", status=204, errors=WRITE, scope=KeyScope.FULL)
    async def delete_customer_webhook(self, call: Call[None]) -> None:
        """Delete a webhook and its waiting messages."""
        await self._webhooks.remove(*_named(call), source=call.source)

    @Endpoint("POST", f"{_ONE}/enable", "The webhook.", errors=WRITE, scope=KeyScope.FULL)
    async def enable_customer_webhook(self, call: Call[None]) -> Webhook:
        """Enable a webhook that was disabled after failed deliveries."""
        return Webhook.of(await self._webhooks.enable(*_named(call), source=call.source))


def _named(call: Call[None]) -> tuple[str, str]:
    return call.path("organization_name"), call.path("webhook_id")


def _key(secret: bytes) -> WebhookSecretKey:
    return WebhookSecretKey(secret_key=base64.b64encode(secret).decode())
