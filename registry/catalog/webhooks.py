"""Webhook endpoints and their pending messages.

The audit trail is read in order from the cursor `webhooks` of the table `upkeep`. One transaction inserts the
messages into `deliveries` and advances the cursor, so that every event is sent at least once, even if a
process dies.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from sqlalchemy import ColumnElement, Delete, RowMapping, and_, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from auth.ports import AuditEvent, Clock
from registry.audit.types import RegistryEventType
from registry.catalog.engine.database import CatalogConnection, Database
from registry.catalog.events import append, read_event
from registry.catalog.tables import deliveries, events, organizations, upkeep, webhook_keys, webhooks
from registry.errors import QuotaExceededError
from registry.model.webhooks import SealedSecret, Webhook, WebhookDelivery, organization_owner, render_message

_CURSOR: Final = "webhooks"
_PAUSE_S: Final = 30.0
_OF_ORGANIZATION: Final = ""
"""`kek_id` of a webhook whose messages the organization's secret key signs."""
_SECRETS: Final = ("kek_id", "sealed_secret", "after")


class SqlWebhooks:
    """The tables `webhooks` and `deliveries`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(
        self, webhook: Webhook, secret: SealedSecret | None, event: AuditEvent, *, limit: int
    ) -> None:
        """Insert an endpoint, for later events. Raises QuotaExceededError: there are `limit` already.

        Args:
            secret: None if the organization's secret key signs its messages.
        """
        owner = select(organizations.c.name).where(organizations.c.name == webhook.organization)
        count = select(func.count()).where(webhooks.c.organization == webhook.organization)
        values = {
            "webhook_id": webhook.webhook_id,
            "organization": webhook.organization,
            "url": webhook.url,
            "types": list(webhook.types),
            "created_at": webhook.created_at,
            "kek_id": secret.kek_id if secret else _OF_ORGANIZATION,
            "sealed_secret": secret.wrapped if secret else b"",
        }
        async with self._database.write() as connection:
            await connection.execute(owner.with_for_update())
            if limit and (await connection.execute(count)).scalar_one() >= limit:
                raise QuotaExceededError("webhooks", limit)
            after = await _latest(connection)
            await connection.execute(insert(webhooks).values(**values, after=after))
            await append(connection, webhook.created_at, event)

    async def secret_key(self, organization: str) -> SealedSecret | None:
        """Return the secret key of an organization's webhooks, or None."""
        query = select(webhook_keys).where(webhook_keys.c.organization == organization)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        owner = organization_owner(organization)
        return SealedSecret(owner, row["kek_id"], row["sealed_secret"]) if row else None

    async def store_secret_key(
        self, organization: str, secret: SealedSecret, event: AuditEvent, *, replace: bool
    ) -> None:
        """Store the secret key of an organization's webhooks, with the event.

        Args:
            replace: Whether to replace another one.
        """
        now = self._clock.now()
        values = {"kek_id": secret.kek_id, "sealed_secret": secret.wrapped, "created_at": now}
        mine = webhook_keys.c.organization == organization
        owner = select(organizations.c.name).where(organizations.c.name == organization)
        async with self._database.write() as connection:
            await connection.execute(owner.with_for_update())
            known = (await connection.execute(select(webhook_keys.c.kek_id).where(mine))).first() is not None
            if known and not replace:
                return
            if known:
                await connection.execute(update(webhook_keys).where(mine).values(values))
            else:
                await connection.execute(insert(webhook_keys).values(organization=organization, **values))
            await append(connection, now, event)

    async def list(self, organization: str) -> Sequence[Webhook]:
        """Return an organization's endpoints, oldest first."""
        query = select(webhooks).where(webhooks.c.organization == organization)
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(webhooks.c.created_at, webhooks.c.webhook_id))
            return [_webhook(row) for row in rows.mappings()]

    async def get(self, organization: str, webhook_id: str) -> Webhook | None:
        """Return an endpoint, or None."""
        async with self._database.read() as connection:
            query = select(webhooks).where(_named(organization, webhook_id))
            row = (await connection.execute(query)).mappings().first()
        return _webhook(row) if row else None

    async def remove(self, webhook: Webhook, event: AuditEvent) -> None:
        """Remove an endpoint and its pending messages, with the event."""
        gone = delete(webhooks).where(webhooks.c.webhook_id == webhook.webhook_id)
        async with self._database.write() as connection:
            if (await connection.execute(gone)).rowcount:
                await append(connection, self._clock.now(), event)

    async def enable(self, webhook: Webhook, event: AuditEvent) -> None:
        """Enable a disabled endpoint for later events, with the event."""
        disabled = and_(webhooks.c.webhook_id == webhook.webhook_id, webhooks.c.disabled_at.is_not(None))
        async with self._database.write() as connection:
            fresh = {"disabled_at": None, "failing_since": None, "after": await _latest(connection)}
            if (await connection.execute(update(webhooks).where(disabled).values(fresh))).rowcount:
                await append(connection, self._clock.now(), event)

    async def collect(self, limit: int) -> int:
        """Enqueue the audit trail's next events for subscribed endpoints. Returns how many were read."""
        async with self._database.read() as connection:
            newest = await _latest(connection)
            known = await connection.execute(select(upkeep.c.cursor).where(upkeep.c.name == _CURSOR))
            if newest <= int(known.scalar() or 0):
                return 0
        try:
            async with self._database.write() as connection:
                return await self._collect(connection, limit)
        except IntegrityError:
            return 0  # another process created the cursor's row at the same moment

    async def claim(self, limit: int, lease_s: float) -> Sequence[WebhookDelivery]:
        """Lease messages that are due. They are due again when the lease expires."""
        now = self._clock.now()
        due = deliveries.c.due_at <= now
        async with self._database.read() as connection:
            if (
                await connection.execute(select(deliveries.c.message_id).where(due).limit(1))
            ).first() is None:
                return []
        query = (
            select(
                deliveries,
                webhooks,
                webhook_keys.c.kek_id.label("organization_kek_id"),
                webhook_keys.c.sealed_secret.label("organization_secret"),
            )
            .join(webhooks, webhooks.c.webhook_id == deliveries.c.webhook_id)
            .outerjoin(webhook_keys, webhook_keys.c.organization == webhooks.c.organization)
            .where(due)
            .order_by(deliveries.c.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True, of=deliveries)
        )
        async with self._database.write() as connection:
            rows = (await connection.execute(query)).mappings().all()
            taken = deliveries.c.message_id.in_([row["message_id"] for row in rows])
            lease = {"due_at": now + timedelta(seconds=lease_s), "attempt": deliveries.c.attempt + 1}
            await connection.execute(update(deliveries).where(taken).values(lease))
        return [_delivery(row) for row in rows]

    async def delivered(self, delivery: WebhookDelivery) -> None:
        """Delete a message that its endpoint accepted."""
        endpoint = webhooks.c.webhook_id == delivery.webhook.webhook_id
        well = {"delivered_at": self._clock.now(), "failing_since": None, "last_failure": None}
        async with self._database.write() as connection:
            await connection.execute(update(webhooks).where(endpoint).values(well))
            await connection.execute(_without(delivery))

    async def failed(
        self, delivery: WebhookDelivery, why: str, *, retry_s: float | None, disable_after: timedelta
    ) -> None:
        """Record a failed attempt (docs/webhooks.md, "Attempts").

        Args:
            why: Reason for the operator, without the response's body.
            retry_s: Seconds until the next attempt; None drops the message.
            disable_after: Time for which an endpoint may fail before it is disabled.
        """
        now = self._clock.now()
        endpoint = webhooks.c.webhook_id == delivery.webhook.webhook_id
        since = func.coalesce(webhooks.c.failing_since, now)
        noted = update(webhooks).where(endpoint, webhooks.c.disabled_at.is_(None))
        async with self._database.write() as connection:
            # Lock the endpoint first, as elsewhere: two concurrent failures would deadlock.
            await connection.execute(noted.values(failing_since=since, last_failure=why))
            if retry_s is None:
                await connection.execute(_without(delivery))
            else:
                waiting = update(deliveries).where(deliveries.c.message_id == delivery.message_id)
                await connection.execute(waiting.values(due_at=now + timedelta(seconds=retry_s)))
                # Delay its other messages too: an unavailable endpoint would occupy all senders.
                of_same = and_(
                    deliveries.c.webhook_id == delivery.webhook.webhook_id, deliveries.c.due_at <= now
                )
                pause = now + timedelta(seconds=min(retry_s, _PAUSE_S))
                await connection.execute(update(deliveries).where(of_same).values(due_at=pause))
            await self._disable(connection, delivery.webhook, why, now, disable_after)

    async def _disable(
        self,
        connection: CatalogConnection,
        webhook: Webhook,
        why: str,
        now: datetime,
        disable_after: timedelta,
    ) -> None:
        """Disable an endpoint that is gone or has failed for too long, and drop its pending messages."""
        too_long = webhooks.c.failing_since <= now - disable_after
        alive = and_(webhooks.c.webhook_id == webhook.webhook_id, webhooks.c.disabled_at.is_(None))
        gone = await connection.execute(update(webhooks).where(alive, too_long).values(disabled_at=now))
        if gone.rowcount != 1:
            return
        await connection.execute(delete(deliveries).where(deliveries.c.webhook_id == webhook.webhook_id))
        type_, detail = RegistryEventType.WEBHOOK_DISABLED, {"webhook_id": webhook.webhook_id, "why": why}
        await append(connection, now, AuditEvent(type_, webhook.organization, detail=detail))

    async def _collect(self, connection: CatalogConnection, limit: int) -> int:
        row = select(upkeep.c.cursor).where(upkeep.c.name == _CURSOR).with_for_update()
        known = (await connection.execute(row)).scalar()
        if known is None:
            await connection.execute(insert(upkeep).values(name=_CURSOR, cursor="", report={}))
        newest = await _latest(connection)  # before the endpoints: a later endpoint gets only later events
        wanting = (
            (await connection.execute(select(webhooks).where(webhooks.c.disabled_at.is_(None))))
            .mappings()
            .all()
        )
        if not wanting:
            return await self._move(connection, newest, 0)
        unread = (
            select(events)
            .where(events.c.cursor > int(known or 0), events.c.cursor <= newest)
            .order_by(events.c.cursor)
            .limit(limit)
        )
        page = [read_event(row) for row in (await connection.execute(unread)).mappings()]
        endpoints = [(_webhook(row), row["after"]) for row in wanting]
        messages = [
            {
                "message_id": f"msg_{uuid4().hex}",
                "webhook_id": webhook.webhook_id,
                "body": render_message(event),
                "attempt": 0,
                "due_at": event.at,
            }
            for event in page
            for webhook, after in endpoints
            if event.cursor > after and webhook.wants(event)
        ]
        if messages:
            await connection.execute(insert(deliveries), messages)
        return await self._move(connection, page[-1].cursor if page else newest, len(page))

    @staticmethod
    async def _move(connection: CatalogConnection, cursor: int, read: int) -> int:
        moved = update(upkeep).where(upkeep.c.name == _CURSOR).values(cursor=str(cursor))
        await connection.execute(moved)
        return read


async def _latest(connection: CatalogConnection) -> int:
    return (await connection.execute(select(func.max(events.c.cursor)))).scalar() or 0


def _named(organization: str, webhook_id: str) -> ColumnElement[bool]:
    return and_(webhooks.c.organization == organization, webhooks.c.webhook_id == webhook_id)


def _without(delivery: WebhookDelivery) -> Delete:
    return delete(deliveries).where(deliveries.c.message_id == delivery.message_id)


def _webhook(row: RowMapping) -> Webhook:
    facts = {column.name: row[column.name] for column in webhooks.c if column.name not in _SECRETS}
    return Webhook(**{**facts, "types": tuple(row["types"])})


def _secret(row: RowMapping) -> SealedSecret:
    if row["kek_id"] != _OF_ORGANIZATION:
        return SealedSecret(row["webhook_id"], row["kek_id"], row["sealed_secret"])
    owner = organization_owner(row["organization"])
    return SealedSecret(owner, row["organization_kek_id"], row["organization_secret"])


def _delivery(row: RowMapping) -> WebhookDelivery:
    return WebhookDelivery(
        message_id=row["message_id"],
        webhook=_webhook(row),
        secret=_secret(row),
        body=row["body"],
        attempt=row["attempt"] + 1,
    )
