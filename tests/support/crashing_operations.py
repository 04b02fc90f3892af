"""A server process that kills itself at a chosen step of one operation.

A step is a statement of a writing transaction, the moment in front of its commit, or the moment behind it.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from sqlalchemy import Connection, select

from registry.catalog.engine.database import CatalogConnection, Database, SystemClock
from registry.catalog.jobs import SqlJobQueue
from registry.catalog.tables import api_keys, instances, webhooks
from registry.composition.process import compose
from registry.config import Role, Settings
from registry.datadir import DataDir
from registry.model.images import StoredImage
from storage.digest import Digest

IMAGE = StoredImage(Digest.of(b"image"), Digest.of(b"image"), "linux/amd64", (), 700)
WORKER, LEASE_S = "worker", 3600.0


@dataclass(frozen=True)
class Site:
    """A data folder, a catalog and a ledger that servers are started on one after another."""

    data_dir: Path
    database_url: str
    redis_url: str
    insecure_webhooks: str

    @property
    def settings(self) -> Settings:
        return Settings(
            data_dir=self.data_dir,
            database_url=self.database_url,
            redis_url=self.redis_url,
            roles=frozenset({Role.API}),
            insecure_webhooks=(self.insecure_webhooks,),
        )

    @asynccontextmanager
    async def server(self) -> AsyncIterator["Caller"]:
        data = DataDir(self.data_dir)
        key = data.operator_key.read_text().strip()
        async with (
            compose(self.settings, data, self.redis_url) as composition,
            TestServer(composition.main) as server,
            ClientSession() as session,
        ):
            yield Caller(session, str(server.make_url("")).rstrip("/"), key)


@dataclass(frozen=True)
class Caller:
    """Calls both APIs as the operator."""

    session: ClientSession
    url: str
    key: str

    async def __call__(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401
        headers = {"Authorization": f"Bearer {self.key}", "Salad-Api-Key": self.key}
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        async with self.session.request(method, self.url + path, headers=headers, json=body) as answer:
            if answer.status >= 400:
                raise AssertionError(f"{method} {path}: {answer.status} {await answer.text()}")
            return await answer.json() if answer.content_type.endswith("json") else None


Operation = Callable[[Caller, Database], Awaitable[object]]
IDS = {
    "instance": select(instances.c.id),
    "webhook": select(webhooks.c.webhook_id).where(webhooks.c.url.endswith("/other")),
    "key": select(api_keys.c.key_id).where(api_keys.c.organization == "acme"),
}


@dataclass(frozen=True)
class Request:
    """The operation that sends one request.

    Attributes:
        of: Names the query of `IDS` that finds what `{}` in the path stands for.
    """

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    of: str | None = None

    async def __call__(self, call: Caller, database: Database) -> None:
        path = self.path
        if self.of is not None:
            async with database.read() as connection:
                path = path.format((await connection.execute(IDS[self.of])).scalars().one())
        await call(self.method, path, self.body)


async def finish_import(_call: Caller, database: Database) -> None:
    queue = SqlJobQueue(database, SystemClock())
    job = await queue.claim(WORKER, LEASE_S)
    assert job is not None
    assert await queue.succeed(job, WORKER, IMAGE)


async def fail_import(_call: Caller, database: Database) -> None:
    queue = SqlJobQueue(database, SystemClock())
    job = await queue.claim(WORKER, LEASE_S)
    assert job is not None
    assert await queue.fail(job, WORKER, "failed to pull", "There is no such tag.")


def run_until_killed(site: Site, operation: Operation, step: int) -> None:
    """Run an operation and die at its `step`th step; return if it has fewer."""
    asyncio.run(_run(site, operation, step))


async def _run(site: Site, operation: Operation, step: int) -> None:
    database = Database(site.database_url)
    async with site.server() as call:
        _arm(step)
        await operation(call, database)
        os._exit(0)  # the operation was answered; what closing does is no step of it


def _arm(step: int) -> None:
    steps = iter(range(1, 1 << 30))

    def next_step() -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    write, transact = Database.write, Database.transact

    @asynccontextmanager
    async def counted_write(self: Database) -> AsyncIterator[CatalogConnection]:
        async with write(self) as connection:
            yield _CountedConnection(connection, next_step)
            next_step()
        next_step()

    async def counted_transact(self: Database, work: Callable[[Connection], Any]) -> Any:  # noqa: ANN401
        next_step()
        result = await transact(self, work)
        next_step()
        return result

    Database.write = counted_write  # type: ignore[method-assign]
    Database.transact = counted_transact  # type: ignore[method-assign]


class _CountedConnection:
    def __init__(self, connection: CatalogConnection, next_step: Callable[[], None]) -> None:
        self._connection = connection
        self._next_step = next_step

    async def execute(self, *given: Any) -> Any:  # noqa: ANN401
        self._next_step()
        return await self._connection.execute(*given)

    async def run_sync(self, work: Callable[[Connection], Any]) -> Any:  # noqa: ANN401
        self._next_step()
        return await self._connection.run_sync(work)
