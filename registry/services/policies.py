"""The use-cases of policies for signatures: show, set, and test an image without importing it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from auth.ports import AuditEvent, Clock
from registry.audit.types import RegistryEventType
from registry.catalog.platforms import SqlPlatformSettings
from registry.catalog.policies import SqlPolicies
from registry.errors import (
    ImportFailedError,
    InvalidInputError,
    RateLimitedError,
    ReferenceFormatError,
    SignatureError,
)
from registry.imports.verification import ImageVerifier
from registry.model.imports import UpstreamCredential
from registry.oci.platform import parse_platforms
from registry.oci.reference import Reference
from registry.trust.policy import Policy
from registry.trust.verdict import Verdict
from registry.trust.verifiers import verifier_of
from registry.upstream.client import UpstreamClient
from registry.upstream.image_documents import read_platforms

MAX_TESTS: Final = 4
TEST_S: Final = 45.0


@dataclass(frozen=True, slots=True)
class TestedImage:
    """Result of a test.

    Attributes:
        digest: Digest of the document that the reference names.
        verdict: None if no policy is for the image.
    """

    image: str
    digest: str
    verdict: Verdict | None


class OrganizationPolicies:
    """Shows, sets and tests policies.

    Args:
        platforms: Platforms that imports store, unless the organization has others.
    """

    def __init__(
        self,
        policies: SqlPolicies,
        *,
        verifier: ImageVerifier,
        client: UpstreamClient,
        settings: SqlPlatformSettings,
        platforms: Sequence[str],
        clock: Clock,
    ) -> None:
        self._policies = policies
        self._verifier = verifier
        self._client = client
        self._settings = settings
        self._platforms = platforms
        self._clock = clock
        self._tests = 0

    async def show(self, organization: str) -> Sequence[Mapping[str, Any]]:
        """Return an organization's policies. Raises NotFoundError."""
        return await self._policies.show(organization)

    async def set(
        self, organization: str, policies: Sequence[Mapping[str, Any]], *, source: str | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Replace an organization's policies. They apply to imports that begin after that.

        Raises:
            InvalidInputError: A key, certificate or identity is not valid.
            NotFoundError: There is no such organization.
        """
        await asyncio.to_thread(self._check, policies)
        listed = [{name: policy[name] for name in ("pattern", "mode", "require")} for policy in policies]
        rules = [[rule["type"] for rule in policy["rules"]] for policy in policies]
        detail = {"policies": [{**each, "rules": kinds} for each, kinds in zip(listed, rules, strict=True)]}
        event = AuditEvent(RegistryEventType.POLICIES_CHANGED, organization, source=source, detail=detail)
        await self._policies.set(organization, policies, event)
        return policies

    async def test(self, organization: str, image: str, credential: UpstreamCredential | None) -> TestedImage:
        """Check an image as an import would, without importing it.

        Raises:
            InvalidInputError: The reference is not valid, or the image or its signatures cannot be read.
            NotFoundError: There is no such organization.
            RateLimitedError: Too many tests run at the moment.
        """
        own = await self._settings.of_organization(organization)
        if self._tests >= MAX_TESTS:
            raise RateLimitedError(5.0, f"{MAX_TESTS} images are being tested. Try again in a few seconds.")
        self._tests += 1
        try:
            async with asyncio.timeout(TEST_S):
                source = await self._client.open(Reference.parse(image), credential)
                found = await read_platforms(source, parse_platforms(own or self._platforms))
                verdict = await self._verifier.check(organization, source, found)
        except (ImportFailedError, ReferenceFormatError) as error:
            raise InvalidInputError(
                f"The image cannot be tested: {error}.", {"image": [str(error)]}
            ) from None
        except TimeoutError:
            raise InvalidInputError(
                f"The registry did not deliver the image's signatures within {TEST_S:.0f} s. Try again later."
            ) from None
        finally:
            self._tests -= 1
        return TestedImage(str(source.reference), str(found.found[0].root.digest), verdict)

    def _check(self, policies: Sequence[Mapping[str, Any]]) -> None:
        fields: dict[str, list[str]] = {}
        for position, policy in enumerate(map(Policy.load, policies)):
            for number, rule in enumerate(policy.rules):
                try:
                    verifier_of(rule, self._clock.now())
                except SignatureError as error:
                    fields[f"policies.{position}.rules.{number}"] = [str(error)]
        if fields:
            raise InvalidInputError("The policies have rules that cannot be used.", fields)
