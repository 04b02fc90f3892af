"""Webhooks: endpoints and their messages (docs/webhooks.md)."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from registry.audit.trail import StoredEvent

FAMILIES: Final = ("group", "instance", "token")
"""Families of event types (`registry.audit.types`) that are delivered to webhooks."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Endpoint that receives an organization's events.

    Attributes:
        types: Event types, or families such as `group.*`; empty means all of `FAMILIES`.
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

    def wants(self, event: StoredEvent) -> bool:
        """Return whether the endpoint gets a message about an event."""
        family = event.type.partition(".")[0]
        if event.organization != self.organization or family not in FAMILIES:
            return False
        return not self.types or event.type in self.types or f"{family}.*" in self.types


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """Signing secret of a webhook or of all webhooks of an organization, wrapped with the organization's key.

    Attributes:
        owner: The webhook's id, or `organization_owner`.
    """

    owner: str
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


def organization_owner(organization: str) -> str:
    """Return the owner of the secret that an organization's webhooks share."""
    return f"organization:{organization}"


def secret_aad(owner: str) -> bytes:
    """Return the associated data of a wrapped signing secret."""
    return b"crisper-webhook|" + owner.encode()


def render_message(event: StoredEvent) -> str:
    """Return the JSON body of the message about an event."""
    named = {"token_id": event.token_id, "node_id": event.node_id, "cause": event.cause}
    facts = {name: value for name, value in named.items() if value is not None}
    data = {"organization": event.organization, **facts, **event.detail}
    body = {"type": event.type, "timestamp": event.at.isoformat().replace("+00:00", "Z"), "data": data}
    return json.dumps(body, separators=(",", ":"))
