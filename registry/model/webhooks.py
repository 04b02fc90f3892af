"""What telling endpoints about events asks of the outside, and its words (as `registry.ports`)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Webhook:
    """An endpoint that is told about an organization's events.

    Attributes:
        types: Event types, or their families as `group.*`; empty means all that are told.
        delivered_at: When it last took a message.
        failing_since: When it began to refuse them; None while it takes them.
        disabled_at: When it was given up; nothing is sent any more.
        last_failure: What the last failed attempt met; no part of any answer's body.
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
    """A webhook's signing secret, wrapped under its organization's key."""

    kek_id: str
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """A message on its way to an endpoint, leased to who sends it.

    Attributes:
        message_id: The same at every attempt.
        attempt: How many there were, this one included.
    """

    message_id: str
    webhook: Webhook
    secret: SealedSecret
    body: str
    attempt: int


class WebhookCatalog(Protocol):
    """Endpoints, and the messages that wait for them."""

    async def add(self, webhook: Webhook, secret: SealedSecret, *, limit: int) -> None:
        """Insert; it is told what happens from now on. Raises ConflictError: the organization has `limit`."""

    async def list(self, organization: str) -> Sequence[Webhook]:
        """Return an organization's endpoints, oldest first."""

    async def get(self, organization: str, webhook_id: str) -> Webhook | None:
        """Return an endpoint."""

    async def remove(self, organization: str, webhook_id: str) -> bool:
        """Remove an endpoint and what waits for it. False when there is none."""

    async def enable(self, organization: str, webhook_id: str) -> bool:
        """Begin to tell an endpoint again, from now on. False when there is none."""

    async def collect(self, limit: int) -> int:
        """Put the next events of the trail into the outboxes that want them; return how many were read."""

    async def claim(self, limit: int, lease_s: float) -> Sequence[WebhookDelivery]:
        """Lease messages that are due; they are due again when the lease lapses."""

    async def delivered(self, delivery: WebhookDelivery) -> None:
        """Take a message out: its endpoint has it."""

    async def failed(
        self, delivery: WebhookDelivery, why: str, *, retry_s: float | None, disable_after: timedelta
    ) -> None:
        """Note a failed attempt.

        Args:
            retry_s: When to try again; None gives the message up.
            disable_after: For how long an endpoint may fail before it is given up.
        """
