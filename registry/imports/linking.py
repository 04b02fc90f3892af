"""Blobs that another organization brought: linked without a download, but never without proof of access.

A digest is no secret, so knowing one proves nothing, and a registry of the customer's own choosing would
swear to anything. A blob is therefore linked only when all of this holds
(docs/adr/0039-cross-organization-linking-by-proof-of-access.md):

1. The operator trusts the image's registry to know who may see what, and it is spoken to over TLS.
2. The blob was once downloaded from that very registry, and verified.
3. This import's own credentials get the blob there now, in the size that the manifest and the record say.

Whatever is missing, the blob is downloaded and hashed like any other.
"""

from collections.abc import Collection
from contextlib import suppress

import structlog

from registry.errors import CatalogUnavailableError
from registry.model.imports import BlobOrigins
from registry.oci.documents import Descriptor
from registry.upstream.repository import UpstreamRepository
from storage.blobs import BlobStore
from storage.errors import StorageError

_log = structlog.get_logger(__name__)


class BlobLinker:
    """Decides which blobs need no download. Safe to share among imports."""

    def __init__(self, store: BlobStore, origins: BlobOrigins, registries: Collection[str]) -> None:
        """Take what it needs.

        Args:
            registries: Which upstreams are trusted, as references name them: `docker.io`, `ghcr.io` ...
        """
        self._store = store
        self._origins = origins
        self._registries = frozenset(registries)

    async def link(self, source: UpstreamRepository, organization: str, blob: Descriptor) -> bool:
        """Give an organization a blob that is there already; False when it has to be downloaded.

        Args:
            source: The image's repository, as this import's credentials see it.
        """
        if not self.trusts(source):
            return False
        try:
            if not await self._origins.has(blob.digest, source.reference.registry):
                return False
            if not await source.admits(blob):
                return False
            linked = await self._store.link(organization, blob.digest, blob.size_bytes)
        except (StorageError, CatalogUnavailableError):
            return False  # a download either works or says why not
        if linked:
            _log.info("blob.linked", digest=str(blob.digest), size_bytes=blob.size_bytes)
        return linked

    async def verified(self, source: UpstreamRepository, blob: Descriptor) -> None:
        """Remember a blob that was just downloaded and hashed; forgetting costs a download, no more."""
        if self.trusts(source):
            with suppress(CatalogUnavailableError):
                await self._origins.add(blob.digest, source.reference.registry)

    def trusts(self, source: UpstreamRepository) -> bool:
        """Tell whether blobs from there may be linked at all."""
        return source.encrypted and source.reference.registry in self._registries
