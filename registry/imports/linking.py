"""Deduplication across organizations: links an existing blob instead of downloading it, on proof of access.

A digest is not secret, so knowing it proves nothing, and a registry that the customer controls can claim
anything. A blob is therefore linked only if all of these conditions hold
(docs/adr/0039-cross-organization-linking-by-proof-of-access.md):

1. The operator trusts the image's registry to enforce access control, and the connection uses TLS.
2. The blob was downloaded from this registry before, and verified.
3. This import's credentials can access the blob there now, with the size in the manifest and in the record.

Otherwise the blob is downloaded and hashed like any other.
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
    """Links blobs that need no download. Safe to share among imports."""

    def __init__(self, store: BlobStore, origins: BlobOrigins, registries: Collection[str]) -> None:
        """Configure the linker.

        Args:
            registries: The trusted upstreams, as references name them: `docker.io`, `ghcr.io` ...
        """
        self._store = store
        self._origins = origins
        self._registries = frozenset(registries)

    async def link(
        self, source: UpstreamRepository, organization: str, blob: Descriptor, *, deliverable: bool = False
    ) -> bool:
        """Give an organization access to an existing blob. Returns False if it must be downloaded.

        Args:
            source: The image's repository, accessed with this import's credentials.
            deliverable: Link only a blob whose ciphertext can be delivered.
        """
        if not self.trusts(source):
            return False
        try:
            if not await self._origins.has(blob.digest, source.reference.registry):
                return False
            if not await source.admits(blob):
                return False
            linked = await self._store.link(
                organization, blob.digest, blob.size_bytes, deliverable=deliverable
            )
        except (StorageError, CatalogUnavailableError):
            return False  # the download succeeds, or reports the problem
        if linked:
            _log.info("blob.linked", digest=str(blob.digest), size_bytes=blob.size_bytes)
        return linked

    async def verified(self, source: UpstreamRepository, blob: Descriptor) -> None:
        """Record a downloaded and verified blob. If the record is lost, a later import downloads it again."""
        if self.trusts(source):
            with suppress(CatalogUnavailableError):
                await self._origins.add(blob.digest, source.reference.registry)

    def trusts(self, source: UpstreamRepository) -> bool:
        """Return whether blobs from this repository may be linked."""
        return source.encrypted and source.reference.registry in self._registries
