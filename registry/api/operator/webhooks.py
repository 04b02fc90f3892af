"""The operator API's webhooks."""

from typing import Annotated, ClassVar, Final

from pydantic import Field

from registry.api.endpoint import Call, Endpoint
from registry.api.operator.shapes import Body, Document, Instant
from registry.model.webhooks import FAMILIES
from registry.services import webhooks

_ALL: Final = "/organizations/{organization_name}/webhooks"
_ONE: Final = f"{_ALL}/{{webhook_id}}"

EventType = Annotated[str, Field(pattern=rf"^({'|'.join(FAMILIES)})\.([a-z_]{{1,32}}|\*)$")]


class NewWebhook(Body):
    """An endpoint that receives an organization's events.

    Attributes:
        url: An https URL with a public address.
        types: Event types, or families: `group.*`, `instance.*`, `token.*`; empty means all.
    """

    url: Annotated[str, Field(min_length=1, max_length=2048, pattern=r"^https?://[\x21-\x7e]+$")]
    types: Annotated[tuple[EventType, ...], Field(max_length=64)] = ()


class Webhook(Document):
    """A webhook and the state of its deliveries."""

    webhook_id: str
    url: str
    types: list[str]
    created_at: Instant
    delivered_at: Instant | None
    failing_since: Instant | None
    disabled_at: Instant | None
    last_failure: str | None


class Webhooks(Document):
    """A customer's webhooks, oldest first."""

    items: list[Webhook]


class CreatedWebhook(Webhook):
    """A new webhook; `secret` is shown only once."""

    secret: str


class WebhooksApi:
    """Operations on an organization's webhooks."""

    tag: ClassVar[str] = "webhooks"

    def __init__(self, hooks: webhooks.Webhooks) -> None:
        self._webhooks = hooks

    @Endpoint(
        "POST", _ALL, "The webhook and its signing secret, shown only once.", status=201, errors=(403, 404)
    )
    async def create_webhook(self, call: Call[NewWebhook]) -> CreatedWebhook:
        """Create a webhook."""
        made = await self._webhooks.register(
            call.path("organization_name"), call.body.url, call.body.types, source=call.source
        )
        return CreatedWebhook(**dict(Webhook.model_validate(made.webhook)), secret=made.secret.reveal())

    @Endpoint("GET", _ALL, "The organization's webhooks and the state of their deliveries.", errors=(404,))
    async def list_webhooks(self, call: Call[None]) -> Webhooks:
        """List webhooks."""
        return Webhooks.model_validate({"items": await self._webhooks.list(call.path("organization_name"))})

    @Endpoint("GET", _ONE, "The webhook.", errors=(404,))
    async def get_webhook(self, call: Call[None]) -> Webhook:
        """Get a webhook."""
        return Webhook.model_validate(await self._webhooks.get(*_named(call)))

    @Endpoint("DELETE", _ONE, "Done.", status=204, errors=(404,))
    async def delete_webhook(self, call: Call[None]) -> None:
        """Delete a webhook."""
        await self._webhooks.remove(*_named(call), source=call.source)

    @Endpoint("POST", f"{_ONE}/enable", "The webhook.", errors=(404,))
    async def enable_webhook(self, call: Call[None]) -> Webhook:
        """Enable a webhook that was disabled after failed deliveries."""
        return Webhook.model_validate(await self._webhooks.enable(*_named(call), source=call.source))


def _named(call: Call[None]) -> tuple[str, str]:
    return call.path("organization_name"), call.path("webhook_id")
