"""The operator API's policies for encrypted delivery."""

from typing import ClassVar

from registry.api.endpoint import Call, Endpoint
from registry.api.operator.shapes import Body, Document
from registry.catalog.encryption import SqlEncryptionPolicies
from registry.model.encryption import Encryption

_ORGANIZATION = "/organizations/{organization_name}/encryption"


class NewEncryptionPolicy(Body):
    """Policy for the layers of an organization's next imports and pull tokens.

    Attributes:
        policy: null removes the setting.
    """

    policy: Encryption | None


class EncryptionPolicy(Document):
    """Policy for the delivery of an organization's layers.

    Attributes:
        policy: The setting itself; null if there is none.
        effective: The policy that applies.
    """

    policy: Encryption | None
    effective: Encryption


class EncryptionApi:
    """Operations on policies for encrypted delivery."""

    tag: ClassVar[str] = "encryption"

    def __init__(self, policies: SqlEncryptionPolicies) -> None:
        self._policies = policies

    @Endpoint("GET", _ORGANIZATION, "The policy.", errors=(404,))
    async def get_encryption_policy(self, call: Call[None]) -> EncryptionPolicy:
        """Get an organization's policy for encrypted delivery."""
        return await self._shown(call.path("organization_name"))

    @Endpoint("PUT", _ORGANIZATION, "The policy.", errors=(404,))
    async def set_encryption_policy(self, call: Call[NewEncryptionPolicy]) -> EncryptionPolicy:
        """Set an organization's policy for encrypted delivery."""
        name = call.path("organization_name")
        await self._policies.set(name, call.body.policy, source=call.source)
        return await self._shown(name)

    async def _shown(self, name: str) -> EncryptionPolicy:
        own, effective = await self._policies.show(name)
        return EncryptionPolicy(policy=own, effective=effective)
