"""Delivers signed webhook messages, retrying until the endpoint accepts them or a limit is reached."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final, NoReturn, Protocol

import structlog
from standardwebhooks import Webhook as Signer

from auth.ports import Clock
from registry.catalog.webhooks import SqlWebhooks
from registry.errors import WebhookFailedError
from registry.model.webhooks import WebhookDelivery
from registry.services.webhooks import WebhookSecrets
from storage.errors import StorageError

#: Waits between attempts; after the last one the message is dropped. About three days in total.
SCHEDULE_S: Final = (5.0, 30.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0)
POLL_S: Final = 1.0

_AT_ONCE: Final = 16
_PAGE: Final = 500
_LEASE_S: Final = 60.0
_GONE: Final = 410
_MAX_ASKED_S: Final = 3600.0
_log = structlog.get_logger(__name__)


class Post(Protocol):
    """Sends a message to an untrusted URL (`registry.upstream.hooks`)."""

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, float | None]:
        """POST a message. Returns the status and the Retry-After in seconds.

        Raises:
            WebhookFailedError: There was no response.
        """


class WebhookDispatcher:
    """Delivers due messages from the outbox. Several instances may run at the same time.

    Args:
        disable_after: How long an endpoint may fail before it is disabled.
        schedule_s: Waits between attempts.
    """

    def __init__(
        self,
        *,
        catalog: SqlWebhooks,
        secrets: WebhookSecrets,
        post: Post,
        clock: Clock,
        disable_after: timedelta,
        schedule_s: Sequence[float] = SCHEDULE_S,
    ) -> None:
        self._catalog = catalog
        self._secrets = secrets
        self._post = post
        self._clock = clock
        self._disable_after = disable_after
        self._schedule_s = schedule_s

    async def run(self) -> NoReturn:
        """Deliver messages until cancelled."""
        while True:
            try:
                idle = not await self.round()
            except Exception as error:  # noqa: BLE001 - transient catalog failure; the outbox is durable
                _log.warning("webhooks.stalled", error=type(error).__name__)
                idle = True
            if idle:
                await asyncio.sleep(POLL_S * random.uniform(0.8, 1.2))  # noqa: S311 (spread)

    async def round(self) -> bool:
        """Enqueue new audit events and deliver due messages. Returns False if there was nothing to do."""
        read = await self._catalog.collect(_PAGE)
        due = await self._catalog.claim(_AT_ONCE, _LEASE_S)
        results = await asyncio.gather(*map(self._deliver, due), return_exceptions=True)
        for error in filter(None, results):  # raised only after all deliveries have ended
            raise error
        return bool(read or due)

    async def _deliver(self, delivery: WebhookDelivery) -> None:
        try:
            status, asked_s = await self._post(
                delivery.webhook.url, await self._headers(delivery), delivery.body.encode()
            )
        except WebhookFailedError as error:
            await self._failed(delivery, str(error))
            return
        except StorageError as error:  # keys unavailable or shredded: not the endpoint's fault
            _log.warning(
                "webhooks.unsigned", webhook_id=delivery.webhook.webhook_id, error=type(error).__name__
            )
            await self._failed(delivery, "the signing secret cannot be opened")
            return
        if 200 <= status < 300:  # noqa: PLR2004 (RFC 9110, section 15.3)
            await self._catalog.delivered(delivery)
            return
        wait_s = min(asked_s or 0.0, _MAX_ASKED_S)
        await self._failed(delivery, f"it answered {status}", wait_s, gone=status == _GONE)

    async def _headers(self, delivery: WebhookDelivery) -> Mapping[str, str]:
        """Sign a message (Standard Webhooks, "Signature scheme")."""
        secret = await self._secrets.open(delivery.secret)
        now = self._clock.now()
        return {
            "Content-Type": "application/json",
            "webhook-id": delivery.message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Signer(secret).sign(delivery.message_id, now, delivery.body),
        }

    async def _failed(
        self, delivery: WebhookDelivery, why: str, asked_s: float = 0.0, *, gone: bool = False
    ) -> None:
        tried = delivery.attempt
        retry_s = max(self._schedule_s[tried - 1], asked_s) if tried <= len(self._schedule_s) else None
        await self._catalog.failed(
            delivery, why, retry_s=retry_s, disable_after=timedelta(0) if gone else self._disable_after
        )
