"""Webhooks: endpoints, and the messages that they get (docs/webhooks.md)."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

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
