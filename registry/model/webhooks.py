"""Webhooks: endpoints, the messages that they get (docs/webhooks.md), and the catalog that keeps both."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from auth.ports import AuditEvent
from registry.audit.trail import StoredEvent

FAMILIES: Final = ("group", "instance", "token")
"""The families of event types (`registry.audit.types`) that webhooks get."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """An endpoint that receives an organization's events.

    Attributes:
        types: Event types, or their families as `group.*`; empty means all of `FAMILIES`.
        delivered_at: When it last accepted a message.
        failing_since: When it began to fail; None while it accepts messages.
        disabled_at: When it was disabled; nothing is sent any more.
        last_failure: Why the last attempt failed; holds nothing of an answer's body.
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

    def wants(self, event: StoredEvent) -> bool:
        """Return whether the endpoint gets a message about an event."""
        family = event.type.partition(".")[0]
        if event.organization != self.organization or family not in FAMILIES:
            return False
        return not self.types or event.type in self.types or f"{family}.*" in self.types


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


def render_message(event: StoredEvent) -> str:
    """Return the JSON body of the message about an event."""
    named = {"token_id": event.token_id, "node_id": event.node_id, "cause": event.cause}
    facts = {name: value for name, value in named.items() if value is not None}
    data = {"organization": event.organization, **facts, **event.detail}
    body = {"type": event.type, "timestamp": event.at.isoformat().replace("+00:00", "Z"), "data": data}
    return json.dumps(body, separators=(",", ":"))


class WebhookCatalog(Protocol):
    """Endpoints, and the messages that wait for them."""

    async def add(self, webhook: Webhook, secret: SealedSecret, event: AuditEvent, *, limit: int) -> None:
        """Insert, with the event; later events are sent. Raises ConflictError: there are `limit` of them."""

    async def list(self, organization: str) -> Sequence[Webhook]:
        """Return an organization's endpoints, oldest first."""

    async def get(self, organization: str, webhook_id: str) -> Webhook | None:
        """Return an endpoint."""

    async def remove(self, webhook: Webhook, event: AuditEvent) -> None:
        """Remove an endpoint and what waits for it, with the event."""

    async def enable(self, webhook: Webhook, event: AuditEvent) -> None:
        """Send later events to a disabled endpoint again, with the event."""

    async def collect(self, limit: int) -> int:
        """Enqueue the next events of the trail for endpoints that want them; return how many were read."""

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
