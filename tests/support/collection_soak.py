"""Imports, pulls, deletions and collections all at once, over one catalog and one folder.

Servers store blobs in different formats, so that one replaces what another has stored.
"""

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from registry.catalog.collection import SqlBlobPins, SqlCollection
from registry.catalog.engine.database import Database, SystemClock
from registry.catalog.groups import SqlGroupCatalog
from registry.catalog.jobs import SqlJobQueue
from registry.catalog.key_records import SqlKeyRecords
from registry.model.groups import Group, GroupKey, GroupStatus
from registry.model.images import ContentKind, ImageContent, StoredImage
from storage.backends.local import LocalBackend
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.errors import StorageUnavailableError
from storage.keys.local import LocalKeyring
from storage.records import KeyRecord
from storage.upkeep.gc import Collector
from tests.support.blobs import DeliverableStore, get, put
from tests.support.catalogs import group_catalog
from tests.support.groups import created
from tests.support.key_records import check_lease

_LEASE_S = 900.0  # not renewed here
_ORGANIZATIONS = ("acme", "umbrella", "initech")


@dataclass
class Server:
    """What one server process has, with connections and threads of its own."""

    database: Database
    store: BlobStore
    catalog: SqlGroupCatalog
    queue: SqlJobQueue
    pins: SqlBlobPins
    dead: SqlCollection

    @property
    def collector(self) -> Collector:
        return Collector(self.store.objects, self.dead, check_lease)


@dataclass
class Soak:
    """The world, and what is expected of it."""

    servers: list[Server]
    backend: LocalBackend
    chance: random.Random
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    living: dict[str, tuple[Group, StoredImage]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def image(self) -> StoredImage:
        chosen = self.chance.sample(list(self.blobs), 4)
        contents = tuple(
            ImageContent(digest, ContentKind.LAYER, "layer", len(self.blobs[digest])) for digest in chosen
        )
        name = Digest.of(repr(sorted(map(str, chosen))).encode())
        return StoredImage(name, name, "linux/amd64", contents, 1)

    async def work(self, imports: int) -> None:
        """Import `imports` images while others are pulled and deleted and two servers collect."""
        over = asyncio.Event()
        collecting = [asyncio.create_task(self._collect(server, over)) for server in self.servers[:2]]
        groups = {(group := self._group()).id: (group, self.image()) for _ in range(imports)}
        lives = [asyncio.create_task(self._live(groups)) for _ in range(imports)]
        for group, _ in groups.values():
            await self.chance.choice(self.servers).catalog.create(created(group), None)
            await asyncio.sleep(self.chance.uniform(0, 0.02))
        await asyncio.gather(*lives)
        over.set()
        await asyncio.gather(*collecting)

    async def check(self) -> None:
        """Hold the world to it: everything that lives is whole."""
        for group, image in self.living.values():
            for content in image.contents:
                await self._read(group, content.digest)

    async def settle(self) -> None:
        """Collect twice without writers: only dead objects are deleted."""
        for _ in range(2):
            await self.servers[0].collector.run(0, force=True)
        owned = {
            (group.key.organization, content.digest)
            for group, image in self.living.values()
            for content in image.contents
        }
        pages = await self._records()
        assert {(row.tenant, row.digest) for row in pages} == owned
        assert set(self.backend.names()) == {name for row in pages for name in row.objects}

    async def _records(self) -> list[KeyRecord]:
        records = SqlKeyRecords(self.servers[0].database)
        found = [await records.get(tenant, digest) for tenant in _ORGANIZATIONS for digest in self.blobs]
        return [row for row in found if row is not None]

    def _group(self) -> Group:
        now = datetime.now(UTC)
        key = GroupKey(self.chance.choice(_ORGANIZATIONS), "shop", uuid4().hex)
        return Group(
            id=str(uuid4()),
            key=key,
            image="app",
            spec={},
            version=1,
            autostart=False,
            status=GroupStatus.PENDING,
            status_description="",
            status_since=now,
            created_at=now,
            updated_at=now,
            job_id=str(uuid4()),
        )

    async def _live(self, groups: dict[str, tuple[Group, StoredImage]]) -> None:
        server, worker_id = self.chance.choice(self.servers), uuid4().hex
        while (job := await server.queue.claim(worker_id, _LEASE_S)) is None:  # noqa: ASYNC110 (as workers do)
            await asyncio.sleep(0.05)
        group, image = groups[job.group_id]
        await server.pins.pin(job.id, job.key.organization, [content.digest for content in image.contents])
        for content in image.contents:
            await self._bring(server, job.key.organization, content.digest)
            await asyncio.sleep(self.chance.uniform(0, 0.1))
        if self.chance.random() < 0.1:
            await server.queue.fail(job, worker_id, "failed to pull", "it was not to be")
            self.counts["failed"] += 1
            return
        assert await server.queue.succeed(job, worker_id, image)
        self.counts["imported"] += 1
        for content in image.contents:
            await self._read(group, content.digest)
        self.living[group.id] = group, image  # from now on, others may delete it
        if self.chance.random() < 0.5:
            await self._delete()

    async def _bring(self, server: Server, tenant: str, digest: Digest) -> None:
        deliverable = isinstance(server.store, DeliverableStore)
        has = server.store.deliverable if deliverable else server.store.contains
        while not await has(tenant, digest):
            try:
                await put(server.store, tenant, self.blobs[digest])
            except StorageUnavailableError:  # the object was collected before its record was there
                self.counts["presented again"] += 1
            else:
                self.counts["brought"] += 1
                return

    async def _read(self, group: Group, digest: Digest) -> None:
        server = self.chance.choice(self.servers)
        assert await get(server.store, group.key.organization, digest) == self.blobs[digest]
        self.counts["read"] += 1

    async def _delete(self) -> None:
        _, (group, _) = self.living.popitem()
        await self.chance.choice(self.servers).catalog.delete(group.key)
        self.counts["deleted"] += 1

    async def _collect(self, server: Server, over: asyncio.Event) -> None:
        while not over.is_set():
            done = await server.collector.run(0, force=True)
            self.counts["collected"] += done.objects
            self.counts["runs"] += 1
            await asyncio.sleep(0.02)


async def soak(
    root: Path, *, rounds: int, imports: int, url: str | None = None, seed: int = 0
) -> Counter[str]:
    """Run rounds, each followed by a check of everything; return what was counted."""
    keyring = LocalKeyring.create(root / "keyring.json")
    url = url or f"sqlite:///{root}/catalog.db"
    async with AsyncExitStack() as stack:
        servers = []
        for store_type in (BlobStore, DeliverableStore, DeliverableStore):
            database = Database(url)
            stack.push_async_callback(database.close)
            await database.migrate()
            store = store_type(
                LocalBackend(root / "blobs"), keyring, SqlKeyRecords(database), keyring.name_key, threads=4
            )
            stack.push_async_callback(store.aclose)
            clock = SystemClock()
            servers.append(
                Server(
                    database,
                    store,
                    group_catalog(database, clock),
                    SqlJobQueue(database, clock),
                    SqlBlobPins(database),
                    SqlCollection(database, clock),
                )
            )
        chance = random.Random(seed)
        world = Soak(servers, LocalBackend(root / "blobs"), chance)
        for _ in range(24):
            data = chance.randbytes(chance.choice([100, 5_000, 300_000]))
            world.blobs[Digest.of(data)] = data
        for _ in range(rounds):
            await world.work(imports)
            await world.check()
            await world.settle()
            await world.check()
    return world.counts
