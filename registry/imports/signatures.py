"""Retrieval of an image's signatures from its registry.

cosign 2 stores signatures under the tag `sha256-<hex>.sig`, and attestations under `sha256-<hex>.att`.
cosign 3 and notation store referrers, which the referrers API lists, or the tag `sha256-<hex>` of registries
without it.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from functools import partial
from typing import Final, TypeVar

from registry.errors import (
    DocumentError,
    ImportFailedError,
    UpstreamMissingError,
    UpstreamUnavailableError,
)
from registry.imports.referrers import list_referrers
from registry.oci.attachments import subject_tag
from registry.oci.documents import Artifact, Descriptor, parse_artifact
from registry.trust.policy import CosignKeylessRule, CosignKeyRule, NotationRule, ProvenanceRule, Rule
from registry.trust.signatures import (
    BUNDLE_TYPE,
    MAX_SIGNATURE_BYTES,
    MAX_SIGNATURES,
    NOTATION_TYPE,
    SIMPLE_SIGNING_TYPE,
    Attestation,
    NotationEnvelope,
    Signature,
    SigstoreBundle,
    SimpleSigning,
    UnreadableSignature,
    Wanted,
    may_be_signature,
    provenance_entries,
    simple_signing_entries,
)
from registry.upstream.repository import UpstreamRepository, off_loop
from storage.digest import Digest

T = TypeVar("T")

_NOT_CHECKED: Final = UnreadableSignature(f"not checked, after the first {MAX_SIGNATURES}")


class SignatureFinder:
    """Fetches the signatures of one image, up to a limit.

    Args:
        source: The image's repository.
        rules: Only signatures of the kinds that these rules accept are fetched.
    """

    def __init__(self, source: UpstreamRepository, rules: Collection[Rule]) -> None:
        self._source = source
        self._wanted = Wanted(
            cosign=any(isinstance(rule, CosignKeyRule | CosignKeylessRule) for rule in rules),
            notation=any(isinstance(rule, NotationRule) for rule in rules),
            provenance=any(isinstance(rule, ProvenanceRule) for rule in rules),
        )
        self._left = MAX_SIGNATURES

    async def find(self, subject: Digest) -> AsyncGenerator[list[Signature], None]:
        """Fetch the signatures of a manifest or an index, in batches: a caller may not need them all.

        Raises:
            UpstreamUnavailableError: The registry did not answer after retries.
        """
        if self._wanted.cosign:
            yield [each async for each in self._simple_signing(subject)]
        if self._wanted.provenance:
            yield [each async for each in self._attestations(subject)]
        if self._wanted != Wanted():
            yield [each async for each in self._referring(subject)]

    async def _simple_signing(self, subject: Digest) -> AsyncIterator[Signature]:
        document = await self._fetch(subject_tag(subject, ".sig"))
        if document is not None:
            async for signature in self._entries(*document):
                yield signature

    async def _entries(self, manifest: bytes, content_type: str | None) -> AsyncIterator[Signature]:
        try:
            entries = await off_loop(manifest, simple_signing_entries, content_type)
        except DocumentError as error:
            yield UnreadableSignature(f"unreadable: {error}")
            return
        for entry in entries:
            if not self._admits_another():
                yield _NOT_CHECKED
                continue
            data = await self._blob(entry.payload)
            yield data if not isinstance(data, bytes) else SimpleSigning(data, entry.signature, entry.keyless)

    async def _attestations(self, subject: Digest) -> AsyncIterator[Signature]:
        """Fetch the attestations of provenance of cosign 2."""
        document = await self._fetch(subject_tag(subject, ".att"))
        if document is None:
            return
        try:
            entries = await off_loop(document[0], provenance_entries, document[1])
        except DocumentError as error:
            yield UnreadableSignature(f"unreadable: {error}")
            return
        for entry in entries:
            if not self._admits_another():
                yield _NOT_CHECKED
                continue
            data = await self._blob(entry.envelope)
            yield data if not isinstance(data, bytes) else Attestation(data, entry.keyless)

    async def _referring(self, subject: Digest) -> AsyncIterator[Signature]:
        for referrer in await list_referrers(self._source, subject, self._attempt):
            if not may_be_signature(referrer, self._wanted):
                continue
            if not self._admits_another():
                yield _NOT_CHECKED
            else:
                async for signature in self._artifact(str(referrer["digest"]), subject):
                    yield signature

    async def _artifact(self, digest: str, subject: Digest) -> AsyncIterator[Signature]:
        """Fetch the signatures in a referrer; none if the referrer is something else."""
        document = await self._fetch(digest)
        if document is None:
            return
        try:
            artifact = await off_loop(document[0], parse_artifact, document[1])
        except DocumentError as error:
            yield UnreadableSignature(f"unreadable: {error}")
            return
        kind = artifact.artifact_type
        if artifact.subject != subject:
            return
        bundles = self._wanted.cosign or self._wanted.provenance
        if kind == SIMPLE_SIGNING_TYPE and self._wanted.cosign:
            async for signature in self._entries(*document):
                yield signature
        elif (kind == BUNDLE_TYPE and bundles) or (kind == NOTATION_TYPE and self._wanted.notation):
            yield await self._envelope(artifact)

    async def _envelope(self, artifact: Artifact) -> Signature:
        blobs = [blob for blob in artifact.blobs if blob.size_bytes > len(b"{}")]
        if len(blobs) != 1:
            return UnreadableSignature("with a manifest that does not have exactly one signature")
        data = await self._blob(blobs[0])
        if not isinstance(data, bytes):
            return data
        is_bundle = artifact.artifact_type == BUNDLE_TYPE
        return SigstoreBundle(data) if is_bundle else NotationEnvelope(blobs[0].media_type, data)

    def _admits_another(self) -> bool:
        """Count a signature, or what may be one. Returns False after the last that is fetched."""
        self._left -= 1
        return self._left >= 0

    async def _blob(self, blob: Descriptor) -> bytes | UnreadableSignature:
        if blob.size_bytes > MAX_SIGNATURE_BYTES:
            return UnreadableSignature(f"larger than {MAX_SIGNATURE_BYTES >> 10} KiB")
        try:
            return await self._source.small_blob(blob)
        except UpstreamUnavailableError:
            raise
        except ImportFailedError as error:
            return UnreadableSignature(f"which the registry does not deliver ({error.sentence})")

    async def _fetch(self, identifier: str) -> tuple[bytes, str | None] | None:
        """Fetch a document, with retries. Returns None if there is none."""
        return await self._attempt(partial(self._source.attempt, identifier))

    async def _attempt(self, request: Callable[[], Awaitable[T]]) -> T | None:
        """Run a request, with retries. Returns None if there is no such document.

        A registry that refuses the request, for example because it does not know the referrers API, has no
        signature there: the policy decides what that means.
        """
        retries = self._source.retries()
        while True:
            try:
                return await request()
            except UpstreamMissingError:
                return None
            except UpstreamUnavailableError as error:
                await retries.wait(error)
            except ImportFailedError:
                return None
