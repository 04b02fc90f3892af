"""Import of one image: reads its documents, transfers its blobs and returns the stored image."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import structlog

from registry.catalog.encryption import SqlEncryptionPolicies
from registry.catalog.import_quotas import SqlImportQuota
from registry.errors import PullFailedError, ReferenceFormatError, UpstreamMissingError
from registry.imports.attachments import Attacher
from registry.imports.gather import gather_both
from registry.imports.linking import BlobLinker
from registry.imports.plan import Plan, plan_import
from registry.imports.platforms import join_platforms
from registry.imports.progress import TransferProgress
from registry.imports.recompress.pipeline import Compressor
from registry.imports.transfer import Transfer, TransferOptions
from registry.imports.verification import ImageVerifier
from registry.model.encryption import Encryption
from registry.model.images import ImageContent, StoredImage
from registry.model.imports import (
    BlobPins,
    ImportJob,
    Progress,
    Stage,
    UpstreamCredential,
)
from registry.observe import Metrics
from registry.oci.attachments import attested_manifests
from registry.oci.platform import LINUX_AMD64, Platform
from registry.oci.reference import Reference
from registry.trust.facts import ImageFacts, base_in_manifest
from registry.trust.verdict import Verdict
from registry.upstream.client import UpstreamClient
from registry.upstream.image_documents import ImagePlatforms, read_platforms
from registry.upstream.providers import detect
from registry.upstream.repository import UpstreamRepository
from storage.blobs import BlobStore
from storage.digest import Digest

_log = structlog.get_logger(__name__)


class Importer:
    """Copies images from upstream registries into encrypted storage. Safe to run concurrently."""

    def __init__(
        self,
        client: UpstreamClient,
        store: BlobStore,
        pins: BlobPins,
        metrics: Metrics,
        *,
        max_image_bytes: int,
        sharing: BlobLinker | None = None,
        options: TransferOptions | None = None,
        quota: SqlImportQuota | None = None,
        platforms: Sequence[Platform] = (LINUX_AMD64,),
        compressor: Compressor | None = None,
        policies: SqlEncryptionPolicies | None = None,
        verifier: ImageVerifier | None = None,
    ) -> None:
        """Configure the importer with the objects that all imports share.

        Args:
            sharing: Links blobs that other organizations imported; None downloads all blobs.
            max_image_bytes: Limit on the compressed size of an image's config and layers.
            options: Settings and locks that all transfers of a process share.
            quota: Limits how much each organization may import; None means no limit.
            platforms: Platforms to import, unless the job names others.
            compressor: Creates zstd variants; None stores only the original images.
            policies: Policies for encrypted delivery; None stores layers for plaintext delivery.
            verifier: Checks signatures by the organization's policies; None checks none.
        """
        self._client = client
        self._store = store
        self._pins = pins
        self._metrics = metrics
        self._sharing = sharing
        self._max_image_bytes = max_image_bytes
        self._options = options or TransferOptions()
        self._quota = quota
        self._platforms = tuple(platforms)
        self._compressor = compressor
        self._policies = policies
        self._verifier = verifier

    async def run(
        self,
        job: ImportJob,
        credential: UpstreamCredential | None,
        report: Callable[[Progress], None],
    ) -> StoredImage:
        """Import a job's image for its organization.

        Each blob gets a key record of the organization as soon as it is verified. The image becomes visible
        only when the caller records the returned value. If the import runs again, it uses the data
        that earlier runs stored.

        Args:
            report: Called often, in the event loop; it must not block.

        Raises:
            AuthenticationFailedError: The registry or its realm refused the credentials.
            PullFailedError: The image does not exist, is not for any of the platforms or is corrupt, is not
                signed as a policy requires, or the registry did not answer after retries.
            ImageTooLargeError: The image is larger than the limit. No layer was downloaded.
            StoreFailedError: Storage or keys failed after retries.
        """
        try:
            reference = Reference.parse(job.image)
        except ReferenceFormatError as error:
            raise PullFailedError(f"the image's name cannot be read: {error}") from None
        source = await self._client.open(reference, credential)
        try:
            return await self._copy(job, source, report)
        except UpstreamMissingError:
            # The tag may have moved, and the image that it named before may have been removed.
            if not await source.moved():
                raise
        return await self._copy(job, source, report)

    async def _copy(
        self, job: ImportJob, source: UpstreamRepository, report: Callable[[Progress], None]
    ) -> StoredImage:
        began = time.monotonic()
        report(Progress(Stage.PULLING))
        source.waiting = lambda error: report(Progress(Stage.PULLING).waiting(error.sentence))
        platforms = await read_platforms(source, job.platforms or self._platforms)
        verdict = await self._check_signatures(job.key.organization, source, platforms)
        plan = plan_import(platforms.found, await self._max_bytes(job.key.organization))
        await self._pins.pin(job.id, job.key.organization, plan.digests)
        deliverable = await self._is_encrypted(job.key.organization)
        transfer = Transfer(
            source,
            self._store,
            job.key.organization,
            self._options,
            self._sharing,
            deliverable=deliverable,
        )
        if self._quota is not None:
            await self._quota.charge(job, await transfer.missing_bytes(plan.layers))
        progress = TransferProgress(plan, report)
        source.waiting = progress.wait
        fetching = self._fetch(job, source.reference.registry, transfer, plan, progress)
        if self._compressor is None:
            images: Sequence[StoredImage] = [planned.image for planned in plan.platforms]
            await fetching
        else:
            compressing = self._compressor.run(
                job, plan.platforms, transfer.arrived, progress.follow, deliverable=deliverable
            )
            images = await gather_both(fetching, compressing)
        progress.enter(Stage.STORING)
        image, indexes = join_platforms(platforms.found[0].root, images)
        await self._pins.pin(job.id, job.key.organization, [content.digest for content, _ in indexes])
        documents = (*plan.documents, *indexes)
        storing = transfer.put_all((content.digest, data) for content, data in documents)
        attacher = Attacher(source, partial(self._put, job, transfer))
        attaching = attacher.attach(image, await asyncio.to_thread(_attestations, platforms))
        attached = await gather_both(storing, attaching)
        bases = await asyncio.to_thread(_bases, platforms)
        _log.info("import.stored", job_id=job.id, seconds=round(time.monotonic() - began, 3))
        missing = tuple(str(platform) for platform in platforms.missing)
        image = image.with_attached(attached).with_facts(
            lambda each: attacher.facts(each.digest, each.manifest_digest).joined(bases[each.manifest_digest])
        )
        return replace(image, missing_platforms=missing, verdict=verdict)

    async def _check_signatures(
        self, organization: str, source: UpstreamRepository, platforms: ImagePlatforms
    ) -> Verdict | None:
        """Return the verdict about the image; None without a policy. Raises PullFailedError."""
        if self._verifier is None:
            return None
        verdict = await self._verifier.check(organization, source, platforms)
        if verdict is not None and verdict.refuses:
            raise PullFailedError(verdict.sentence)
        return verdict

    async def _is_encrypted(self, organization: str) -> bool:
        if self._policies is None:
            return False
        return await self._policies.effective(organization) is not Encryption.NONE

    async def _max_bytes(self, organization: str) -> int:
        quota = await self._quota.max_image_bytes(organization) if self._quota else 0
        return min(quota or self._max_image_bytes, self._max_image_bytes)

    async def _fetch(
        self, job: ImportJob, registry: str, transfer: Transfer, plan: Plan, progress: TransferProgress
    ) -> None:
        try:
            await transfer.fetch_layers(plan.layers, progress)
        finally:
            _log.info("import.pulled", job_id=job.id, **progress.figures())
            provider = detect(registry)
            self._metrics.imported.labels(provider).inc(progress.fetched_bytes)
            self._metrics.import_time.labels(provider).observe(progress.duration_s)

    async def _put(self, job: ImportJob, transfer: Transfer, content: ImageContent, data: bytes) -> None:
        await self._pins.pin(job.id, job.key.organization, [content.digest])
        await transfer.put(content.digest, data)


def _attestations(platforms: ImagePlatforms) -> list[tuple[Digest, Digest]]:
    """Return the imported manifests that have attestations in their index, each with the attestation."""
    manifests = [documents.manifest.digest for documents in platforms.found]
    indexes = {index.digest: index for documents in platforms.found for index in documents.indexes}
    return [pair for index in indexes.values() for pair in attested_manifests(index.data, manifests)]


def _bases(platforms: ImagePlatforms) -> Mapping[Digest, ImageFacts]:
    """Return the base images of the imported manifests."""
    return {each.manifest.digest: base_in_manifest(each.manifest.data) for each in platforms.found}
