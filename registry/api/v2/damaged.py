"""Reporting of damaged blobs that are detected during a pull."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from registry.maintenance.damage import DamageReporter
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.errors import BlobDamagedError


class DamageWatch:
    """Reports blobs that fail verification while they are read."""

    def __init__(self, blobs: BlobStore, damage: DamageReporter) -> None:
        self._blobs = blobs
        self._damage = damage

    @asynccontextmanager
    async def reading(self, organization: str, digest: Digest) -> AsyncIterator[None]:
        """Report the blob if the block that reads it raises BlobDamagedError. Raises the error again."""
        try:
            yield
        except BlobDamagedError as error:
            self._blobs.forget(organization, digest)
            await asyncio.shield(self._damage.report(organization, digest, error))
            raise
