"""The use-case of designating a node: mint a pull token for a group's image."""

from dataclasses import dataclass

from auth.authority import Authority, MintedToken
from auth.ports import Node
from auth.records import ImageGrant
from registry.catalog.instances import SqlInstances
from registry.errors import ConflictError, NotFoundError
from registry.model.groups import GroupCatalog, GroupKey, GroupStatus
from registry.model.images import StoredImage, Variant
from registry.model.nodes import NodeRegistry
from registry.oci.platform import Platform


@dataclass(frozen=True, slots=True)
class Designation:
    """A minted token, with the node, group version and image that it is valid for."""

    minted: MintedToken
    node_id: str
    key: GroupKey
    version: int
    image: StoredImage


class PullTokens:
    """Mints pull tokens for container groups.

    Args:
        catalog: Groups and their images.
        instances: Records the node as an instance of the group.
        nodes: The nodes that can be designated.
        authority: Signs the tokens.
        default: Variant for nodes whose zstd support is unknown.
    """

    def __init__(
        self,
        catalog: GroupCatalog,
        instances: SqlInstances,
        nodes: NodeRegistry,
        authority: Authority,
        default: Variant = Variant.ORIGINAL,
    ) -> None:
        self._catalog = catalog
        self._instances = instances
        self._nodes = nodes
        self._authority = authority
        self._default = default

    async def mint(
        self, key: GroupKey, node_id: str, ttl_s: int | None, wanted: Variant | None = None
    ) -> Designation:
        """Mint a token that lets one node pull the newest stored version of a group's image once.

        Args:
            wanted: The variant for the node; None chooses by the node's recorded zstd support. If the image
                has no zstd variant, the token is for the original.

        Raises:
            NotFoundError: No such group, or no such node.
            ConflictError: The group has no stored image, or none for the node's platform; or the node was
                deleted, or it does not support the image's zstd layers.
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
        image = self._choose(image, node, wanted)
        if node.reads_zstd is False and wanted is not Variant.ZSTD and image.has_zstd_layers:
            raise _zstd_unsupported(node_id)
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
        )
        # A deletion that commits after this read finds the token in the ledger; an earlier one shows up here.
        node = await self._nodes.get(node_id)
        if node is None or node.revoked_at is not None:
            await self._authority.revoke(minted.token_id)
            raise _node_deleted(node_id)
        await self._instances.designate(group, node_id, version, minted.token_id)
        return Designation(minted, node_id, key, version, image)

    async def image(self, repository: str, digest: str) -> StoredImage | None:
        """Return the image that a token's digest in a repository refers to; None if the image is gone."""
        return await self._catalog.image_by_digest(repository, digest)

    def _choose(self, stored: StoredImage, node: Node, wanted: Variant | None) -> StoredImage:
        """Return the image for the node's platform, in a variant that it supports. Raises ConflictError."""
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
        return image.zstd if wanted is Variant.ZSTD and image.zstd is not None else image


def _zstd_unsupported(node_id: str) -> ConflictError:
    return ConflictError(
        f"The image has zstd layers, and the node {node_id!r} is registered without zstd support. Build and "
        "push the image with gzip layers, then import it again. Or use a node whose engine supports zstd "
        "(Docker 23, containerd 1.5, Podman). If this node's engine was upgraded, ask for the variant `zstd`."
    )


def _node_deleted(node_id: str) -> ConflictError:
    return ConflictError(f"the node {node_id!r} was deleted; create another")
