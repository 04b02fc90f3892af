"""Registries from which blobs were downloaded (implements `registry.model.imports.BlobOrigins`)."""

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from auth.ports import Clock
from registry.catalog.engine.database import Database
from registry.catalog.tables import blob_origins
from storage.digest import Digest


class SqlBlobOrigins:
    """The table `blob_origins`. Garbage collection removes the rows of blobs that no tenant has."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(self, digest: Digest, registry: str) -> None:
        """Record that a blob was downloaded from a registry and verified."""
        if await self.has(digest, registry):
            return
        values = {"digest": str(digest), "registry": registry, "verified_at": self._clock.now()}
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(blob_origins).values(values))
        except IntegrityError:
            return  # another import added it

    async def has(self, digest: Digest, registry: str) -> bool:
        """Return whether a blob was downloaded from a registry and verified before."""
        query = select(blob_origins.c.digest).where(
            blob_origins.c.digest == str(digest), blob_origins.c.registry == registry
        )
        async with self._database.read() as connection:
            return (await connection.execute(query)).first() is not None
