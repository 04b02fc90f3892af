"""Reports blobs that turn out to be damaged while they are read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from registry.maintenance.damage import DamageReporter
from storage.blobs import BlobStore
from storage.digest import Digest
from storage.errors import BlobDamagedError


class DamageWatch:
    """Reports damage that readers of the store meet."""

    def __init__(self, blobs: BlobStore, damage: DamageReporter) -> None:
        self._blobs = blobs
        self._damage = damage

    @asynccontextmanager
    async def reading(self, organization: str, digest: Digest) -> AsyncIterator[None]:
        """Report a blob that does not verify, whether or not bytes of it have left."""
        try:
            yield
        except BlobDamagedError as error:
            self._blobs.forget(organization, digest)
            await asyncio.shield(self._damage.report(organization, digest, error))
            raise
