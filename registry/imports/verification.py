"""Verification of an image's signatures before its layers are fetched (docs/trust.md)."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Protocol

import structlog

from auth.ports import Clock
from registry.errors import PullFailedError, SignatureError
from registry.imports.signatures import SignatureFinder
from registry.trust.judge import Judge
from registry.trust.policy import Policy, policy_for
from registry.trust.signatures import Subject
from registry.trust.verdict import Verdict
from registry.upstream.image_documents import ImagePlatforms
from registry.upstream.repository import UpstreamRepository

_log = structlog.get_logger(__name__)


class Policies(Protocol):
    """The policies of organizations."""

    async def of(self, organization: str) -> Sequence[Policy]:
        """Return an organization's policies, in order."""


class ImageVerifier:
    """Checks images against the policies of the organizations that import them."""

    def __init__(self, policies: Policies, clock: Clock) -> None:
        self._policies = policies
        self._clock = clock

    async def check(
        self, organization: str, source: UpstreamRepository, platforms: ImagePlatforms
    ) -> Verdict | None:
        """Check an image whose documents were read. Without a policy, no request is sent.

        Returns:
            The verdict; None if no policy is for the image.

        Raises:
            PullFailedError: The policy cannot be used.
            UpstreamUnavailableError: The registry did not answer after retries.
        """
        policies = await self._policies.of(organization)
        # In a thread: many long patterns, in the worst case, take seconds.
        policy = await asyncio.to_thread(policy_for, policies, source.reference.names) if policies else None
        if policy is None:
            return None
        root = platforms.found[0].root
        manifests = [documents.manifest for documents in platforms.found]
        digests = [manifest.digest for manifest in manifests]
        try:
            judge = await asyncio.to_thread(Judge, policy, root.digest, digests, self._clock.now())
        except SignatureError as error:
            raise PullFailedError(
                f"{organization}'s policy for {policy.pattern} cannot be used ({error}): ask the operator to "
                "set it again"
            ) from None
        finder = SignatureFinder(source, policy.rules)
        for document in {each.digest: each for each in (root, *manifests)}.values():
            await _consider(judge, finder, Subject(document.digest, document.data))
            if judge.accepts:
                break
        verdict = judge.verdict(organization)
        _log.info(
            "import.verified",
            image=str(root.digest),
            trusted=verdict.trusted,
            mode=verdict.mode,
            sentence=verdict.sentence,
        )
        return verdict


async def _consider(judge: Judge, finder: SignatureFinder, subject: Subject) -> None:
    """Verify the signatures of a document until the policy accepts the image."""
    async with aclosing(finder.find(subject.digest)) as batches:
        async for signatures in batches:
            await asyncio.to_thread(judge.consider, subject, signatures)
            if judge.accepts:
                return
