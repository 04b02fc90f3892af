"""The use-case of designating a node: mint a pull token for a group's image."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from auth.authority import Authority, Issue, MintedToken
from auth.errors import TokenNotFoundError
from auth.ports import Node
from auth.records import EncryptedFor, ImageGrant, TokenState
from registry.catalog.encryption import SqlEncryptionPolicies
from registry.catalog.instances import ListedToken, SqlInstances
from registry.catalog.nodes import SqlNodeRegistry
from registry.errors import (
    ConflictError,
    DocumentError,
    NodeKeyMissingError,
    NotEncryptedError,
    NotFoundError,
)
from registry.model.encryption import DECRYPTING_RUNTIMES, Encryption, choose_encryption
from registry.model.groups import GroupCatalog, GroupKey, GroupStatus
from registry.model.images import StoredImage, Variant
from registry.oci.node_key import NodeKey
from registry.oci.platform import Platform
from registry.pull.encryption import ImageEncryption, Recipient
from storage.digest import Digest
from storage.errors import NotDeliverableError

_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Designation:
    """A minted token, with the node, group version and image that it is valid for.

    Attributes:
        image: The stored image, in its variant.
        original_digest: Digest of the image as it was imported.
        encrypted: How its layers are encrypted for the node; None for plaintext.
    """

    minted: MintedToken
    node_id: str
    key: GroupKey
    version: int
    image: StoredImage
    original_digest: Digest
    encrypted: EncryptedFor | None = None

    @property
    def digest(self) -> str:
        """Digest of the document that the reference names."""
        return self.encrypted.digest if self.encrypted else str(self.image.digest)


class PullTokens:
    """Mints pull tokens for container groups.

    Args:
        catalog: Groups and their images.
        instances: Records the node as an instance of the group.
        nodes: The nodes that can be designated.
        authority: Signs the tokens.
        encryption: Computes encrypted images.
        policies: Policies for encrypted delivery.
        default: Variant for nodes whose zstd support is unknown.
    """

    def __init__(
        self,
        *,
        catalog: GroupCatalog,
        instances: SqlInstances,
        nodes: SqlNodeRegistry,
        authority: Authority,
        encryption: ImageEncryption,
        policies: SqlEncryptionPolicies,
        default: Variant = Variant.ORIGINAL,
    ) -> None:
        self._catalog = catalog
        self._instances = instances
        self._nodes = nodes
        self._authority = authority
        self._encryption = encryption
        self._policies = policies
        self._default = default

    async def list(
        self,
        limit: int,
        *,
        organization: str | None = None,
        group: str | None = None,
        node_id: str | None = None,
    ) -> Sequence[tuple[ListedToken, TokenState | None]]:
        """Return the newest tokens with their states; None if the ledger no longer has the token."""
        found = await self._instances.list_tokens(
            limit, organization=organization, group=group, node_id=node_id
        )
        states: list[TokenState | None] = []
        for start in range(0, len(found), _AT_ONCE):
            some = found[start : start + _AT_ONCE]
            states += await asyncio.gather(*(self._state(each.token_id) for each in some))
        return list(zip(found, states, strict=True))

    async def _state(self, token_id: str) -> TokenState | None:
        try:
            return (await self._authority.show(token_id)).state
        except TokenNotFoundError:
            return None

    async def mint(
        self,
        key: GroupKey,
        node_id: str,
        ttl_s: int | None,
        wanted: Variant | None = None,
        encryption: Encryption | None = None,
    ) -> Designation:
        """Mint a token that lets one node pull the newest stored version of a group's image once.

        Args:
            wanted: The variant for the node; None chooses by the node's recorded zstd support. If the image
                has no zstd variant, the token is for the original.
            encryption: How layers are delivered; None leaves it to the policy.

        Raises:
            NotFoundError: No such group, or no such node.
            ConflictError: The group has no stored image, or none for the node's platform; or the node was
                deleted, or it does not support the image's zstd layers; or plaintext is forbidden.
            NodeKeyMissingError, NotEncryptedError: Encryption is required, and not possible.
        """
        group = await self._catalog.get(key, with_spec=False)
        if group is None:
            raise NotFoundError(f"there is no container group {key.repository}")
        version = group.served_version
        image = await self._catalog.image(group.id, version) if version is not None else None
        if version is None or image is None:
            failed = group.status is GroupStatus.FAILED
            hint = (
                "its import failed; create it again" if failed else "its image is not ready; try again later"
            )
            raise ConflictError(f"the container group is {group.status.value}: {hint}")
        node = await self._nodes.get(node_id)
        if node is None:
            raise NotFoundError(f"there is no node {node_id!r}; create it first")
        if node.revoked_at is not None:
            raise _node_deleted(node_id)
        original, image = self._choose(image, node, wanted)
        if node.reads_zstd is False and wanted is not Variant.ZSTD and image.has_zstd_layers:
            raise _zstd_unsupported(node_id)
        issue = self._authority.issue()
        encrypted = await self._encrypt(key.organization, image, node, issue, encryption)
        minted = await self._authority.mint(
            organization=key.organization,
            group_id=group.id,
            repository=key.repository,
            image=ImageGrant(
                str(image.digest),
                image.size_bytes,
                image.platform_blobs,
                tuple(platform.platform_blobs.keys() for platform in image.platforms),
            ),
            node=node,
            ttl_s=ttl_s,
            issue=issue,
            encrypted=encrypted,
        )
        # A deletion that commits after this read finds the token in the ledger; an earlier one shows up here.
        node = await self._nodes.get(node_id)
        if node is None or node.revoked_at is not None:
            await self._authority.revoke(minted.token_id)
            raise _node_deleted(node_id)
        await self._instances.designate(group, node_id, version, minted.token_id)
        return Designation(minted, node_id, key, version, image, original.digest, encrypted)

    async def image(self, repository: str, digest: str) -> StoredImage | None:
        """Return the image that a token's digest in a repository refers to; None if the image is gone."""
        return await self._catalog.image_by_digest(repository, digest)

    async def _encrypt(
        self, organization: str, image: StoredImage, node: Node, issue: Issue, asked: Encryption | None
    ) -> EncryptedFor | None:
        """Return how the layers are encrypted for the node; None if they are delivered as plaintext."""
        chosen = choose_encryption(await self._policies.effective(organization), asked)
        if chosen is Encryption.NONE:
            return None
        required = chosen is Encryption.REQUIRED
        decrypts = node.runtime in DECRYPTING_RUNTIMES or (required and node.runtime is None)
        if node.encryption_key is None or not decrypts:
            if required:
                raise _key_missing(node)
            return None
        key = NodeKey.parse(node.encryption_key)
        recipient = Recipient(key, issue.token_id, issue.at_s)
        try:
            image_of_session = await self._encryption.encrypt(organization, image, recipient)
        except NotDeliverableError:
            if required:
                raise _not_encrypted() from None
            return None
        except DocumentError as error:
            if required:
                raise NotEncryptedError(f"The layers must be encrypted, but {error}.") from None
            return None
        return EncryptedFor(key.thumbprint, str(image_of_session.visible.digest))

    def _choose(
        self, stored: StoredImage, node: Node, wanted: Variant | None
    ) -> tuple[StoredImage, StoredImage]:
        """Return the image for the node's platform as imported, and in a variant that the node supports.

        Raises:
            ConflictError: The image was not imported for this platform.
        """
        image = stored.choose(Platform.parse(node.platform) if node.platform else None)
        if image is None:
            raise ConflictError(
                f"the image was imported for {stored.platform.replace(',', ', ')}, but the node "
                f"{node.node_id!r} runs {node.platform}: add the platform with `crisper group platforms` or "
                "CRISPER_PLATFORMS, and import the image again with `crisper group update --pull`"
            )
        if wanted is None:
            known = {True: Variant.ZSTD, False: Variant.ORIGINAL, None: self._default}
            wanted = known[node.reads_zstd]
        return image, image.zstd if wanted is Variant.ZSTD and image.zstd is not None else image


def _key_missing(node: Node) -> NodeKeyMissingError:
    if node.encryption_key is None:
        return NodeKeyMissingError(
            f"The layers must be encrypted, and the node {node.node_id!r} has no encryption key. Run "
            "`crisper node enroll --runtime containerd` on it, or set a key with "
            "PUT /api/v1/nodes/{id}/encryption-key."
        )
    return NodeKeyMissingError(
        f"The layers must be encrypted, and the node {node.node_id!r} runs {node.runtime}, which cannot "
        "decrypt them. Use a node with containerd, CRI-O, Podman or skopeo."
    )


def _not_encrypted() -> NotEncryptedError:
    return NotEncryptedError(
        "The layers must be encrypted, but the image was imported without encrypted delivery. Encrypt it "
        "with `crisper image rekey`, or import it again with `crisper group update --pull`."
    )


def _zstd_unsupported(node_id: str) -> ConflictError:
    return ConflictError(
        f"The image has zstd layers, and the node {node_id!r} is registered without zstd support. Build and "
        "push the image with gzip layers, then import it again. Or use a node whose engine supports zstd "
        "(Docker 23, containerd 1.5, Podman). If this node's engine was upgraded, ask for the variant `zstd`."
    )


def _node_deleted(node_id: str) -> ConflictError:
    return ConflictError(f"the node {node_id!r} was deleted; create another")
