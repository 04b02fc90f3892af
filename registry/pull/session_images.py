"""Finds the image of a session, and keeps encrypted ones in memory for the session's next requests."""

from typing import Final

from cachetools import LRUCache

from auth.claims import SessionClaims
from auth.ports import Node, NodeDirectory
from registry.errors import EncryptedSessionError, NotFoundError
from registry.oci.node_key import NodeKey
from registry.pull.encryption import ImageEncryption, Recipient
from registry.pull.resolve import ImageResolver
from registry.pull.session_image import SessionImage
from storage.locks import KeyedLocks

_KEPT_BYTES: Final = 32 << 20


class SessionImages:
    """Finds the images of sessions.

    Args:
        resolver: Finds stored images.
        encryption: Computes encrypted images.
        nodes: Has the nodes' encryption keys.
    """

    def __init__(self, resolver: ImageResolver, encryption: ImageEncryption, nodes: NodeDirectory) -> None:
        self._resolver = resolver
        self._encryption = encryption
        self._nodes = nodes
        self._kept: LRUCache[tuple[str, str], SessionImage] = LRUCache(_KEPT_BYTES, len)
        self._locks: KeyedLocks[str] = KeyedLocks()

    async def of(self, claims: SessionClaims, repository: str, digest: str) -> SessionImage | None:
        """Return a session's image in its repository; None if it was deleted.

        Args:
            digest: The claim `img`.

        Raises:
            EncryptedSessionError: The node's key was replaced twice since the token was minted.
            StorageError: The keys of an encrypted image cannot be read.
        """
        image = await self._resolver.image(repository, digest)
        if image is None:
            return None
        if claims.encryption is None:
            return SessionImage.plain(image)
        wanted = (claims.token_id, digest)
        async with self._locks.hold(claims.token_id):
            kept = self._kept.get(wanted)
            if kept is None:
                key = await self._key(claims.node_id, claims.encryption.key)
                recipient = Recipient(key, claims.token_id, claims.encryption.minted_at)
                kept = await self._encryption.encrypt(claims.organization, image, recipient)
                if len(kept) <= self._kept.maxsize:
                    self._kept[wanted] = kept
        return kept

    async def _key(self, node_id: str, thumbprint: str) -> NodeKey:
        node = await self._nodes.get(node_id)
        if node is None:
            raise NotFoundError("The node does not exist.")
        key = node_key(node, thumbprint)
        if key is None:
            raise EncryptedSessionError(
                "The node's encryption key was replaced after this token was minted. Pull with another token."
            )
        return key


def node_key(node: Node, thumbprint: str) -> NodeKey | None:
    """Return the node's current or previous encryption key by its thumbprint, or None."""
    keys = {
        node.previous_key_thumbprint: node.previous_encryption_key,
        node.key_thumbprint: node.encryption_key,
    }
    pem = keys.get(thumbprint)
    return NodeKey.parse(pem) if pem else None
