"""Webhooks: endpoints, deliveries, and the port to the catalog."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Webhook:
    """Endpoint that receives an organization's events.

    Attributes:
        types: Event types, or patterns such as `group.*`; empty means all event types.
        delivered_at: Time of the last successful delivery.
        failing_since: Time of the first failure since the last success; None if there is none.
        disabled_at: Time at which deliveries stopped after too many failures; None while enabled.
        last_failure: Reason of the last failed attempt; never contains a response body.
    """

    webhook_id: str
    organization: str
    url: str
    types: tuple[str, ...]
    created_at: datetime
    delivered_at: datetime | None = None
    failing_since: datetime | None = None
    disabled_at: datetime | None = None
    last_failure: str | None = None


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """Signing secret of a webhook, wrapped with its organization's key."""

    kek_id: str
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """Message for an endpoint, leased to the sending process.

    Attributes:
        message_id: Id of the message; the same at every attempt.
        attempt: Number of attempts, including this one.
    """

    message_id: str
    webhook: Webhook
    secret: SealedSecret
    body: str
    attempt: int


class WebhookCatalog(Protocol):
    """Store of webhooks and of their pending messages."""

    async def add(self, webhook: Webhook, secret: SealedSecret, *, limit: int) -> None:
        """Insert a webhook, which gets events from now on.

        Raises:
            ConflictError: The organization already has `limit` webhooks.
        """

    async def list(self, organization: str) -> Sequence[Webhook]:
        """Return an organization's webhooks, oldest first."""

    async def get(self, organization: str, webhook_id: str) -> Webhook | None:
        """Return a webhook, or None."""

    async def remove(self, organization: str, webhook_id: str) -> bool:
        """Remove a webhook and its pending messages. Returns False if there is no such webhook."""

    async def enable(self, organization: str, webhook_id: str) -> bool:
        """Resume deliveries to a disabled webhook. Returns False if there is no such webhook."""

    async def collect(self, limit: int) -> int:
        """Enqueue messages for the next audit events. Returns the number of events read."""

    async def claim(self, limit: int, lease_s: float) -> Sequence[WebhookDelivery]:
        """Lease messages that are due. They become due again when the lease expires."""

    async def delivered(self, delivery: WebhookDelivery) -> None:
        """Remove a delivered message."""

    async def failed(
        self, delivery: WebhookDelivery, why: str, *, retry_s: float | None, disable_after: timedelta
    ) -> None:
        """Record a failed attempt.

        Args:
            why: Reason for the webhook's owner.
            retry_s: Seconds until the next attempt; None drops the message.
            disable_after: Time of continuous failure after which the webhook is disabled.
        """
