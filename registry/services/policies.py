"""The use-cases of policies for signatures: show, set, and test an image without importing it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from auth.ports import AuditEvent, Clock
from registry.audit.types import RegistryEventType
from registry.catalog.policies import SqlPolicies
from registry.errors import (
    ImportFailedError,
    InvalidInputError,
    ReferenceFormatError,
    SignatureError,
)
from registry.model.imports import UpstreamCredential
from registry.oci.reference import Reference
from registry.services.image_checks import CheckedImage, ImageChecks
from registry.trust.policy import Policy
from registry.trust.verifiers import check_rule


class OrganizationPolicies:
    """Shows, sets and tests policies."""

    def __init__(self, policies: SqlPolicies, checks: ImageChecks, clock: Clock) -> None:
        self._policies = policies
        self._checks = checks
        self._clock = clock

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

    async def test(
        self, organization: str, image: str, credential: UpstreamCredential | None
    ) -> CheckedImage:
        """Check an image as an import would, without importing it.

        Raises:
            InvalidInputError: The reference is not valid, or the image or its signatures cannot be read.
            NotFoundError: There is no such organization.
            RateLimitedError: Too many checks run at the moment.
        """
        try:
            return await self._checks.check(organization, Reference.parse(image), credential)
        except (ImportFailedError, ReferenceFormatError) as error:
            raise InvalidInputError(
                f"The image cannot be tested: {error}.", {"image": [str(error)]}
            ) from None

    def _check(self, policies: Sequence[Mapping[str, Any]]) -> None:
        fields: dict[str, list[str]] = {}
        for position, policy in enumerate(map(Policy.load, policies)):
            for number, rule in enumerate(policy.rules):
                try:
                    check_rule(rule, self._clock.now())
                except SignatureError as error:
                    fields[f"policies.{position}.rules.{number}"] = [str(error)]
        if fields:
            raise InvalidInputError("The policies have rules that cannot be used.", fields)
