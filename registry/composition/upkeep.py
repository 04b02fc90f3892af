"""The background work of the role `import`."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial

from auth.ledger import (
    EventStream,
)
from registry.audit.drain import EventDrain
from registry.catalog.collection import SqlCollection
from registry.catalog.event_chain import SqlEventChain
from registry.catalog.maintenance import SqlUpkeep
from registry.composition.shared import Shared
from registry.maintenance.collection import Collection
from registry.maintenance.periodic import repeat
from registry.maintenance.trail import TrailKeeper
from registry.services.instances import SWEEP_S
from registry.services.webhook_delivery import WebhookDispatcher


def compose_upkeep(shared: Shared) -> Callable[[], Awaitable[None]]:
    """Build the background work of the role `import`: webhooks, events, instances, garbage collection."""
    settings = shared.settings
    dispatcher = WebhookDispatcher(
        catalog=shared.webhooks,
        secrets=shared.webhook_secrets,
        post=shared.hooks.post,
        clock=shared.clock,
        disable_after=timedelta(days=settings.webhook_days),
    )
    stream = EventStream(shared.redis)
    shared.stack.push_async_callback(stream.aclose)
    chores: list[Callable[[], Coroutine[None, None, None]]] = [
        dispatcher.run,
        EventDrain(stream, shared.events.store, shared.trail.count).run,
        partial(repeat, "instances", SWEEP_S, shared.instances.sweep),
        TrailKeeper(
            SqlEventChain(shared.database, shared.key_provider),
            shared.figures,
            shared.clock,
            settings.retention,
        ).run,
    ]
    if settings.gc_interval_s > 0:
        collection = Collection(
            shared.blobs,
            SqlCollection(shared.database, shared.clock, settings.image_cache_s),
            SqlUpkeep(shared.database, shared.clock),
            shared.clock,
        )
        collect = partial(collection.run_if_due, settings.gc_interval_s, settings.gc_grace_s)
        chores.append(partial(repeat, "gc", settings.gc_interval_s, collect))

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for chore in chores:
                group.create_task(chore())

    return run
