"""Encrypted images: manifests that give one node the keys of an image's layers (docs/encrypted-delivery.md).

The layers are stored as ciphertext. What differs between sessions are the manifests, which are computed from
the stored ones, the layers' keys, the node's key and the token's id: the same bytes in every process.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from registry.model.images import ContentKind, ImageContent, StoredImage, Variant
from registry.oci.encrypted_manifest import (
    LayerSecrets,
    encrypted_index,
    encrypted_manifest,
    must_encrypt,
)
from registry.oci.mediatypes import OCI_INDEX, OCI_MANIFEST
from registry.oci.node_key import NodeKey
from registry.oci.variant import original_digest
from registry.pull.documents import Documents
from registry.pull.session_image import SessionImage
from storage.blobs import BlobStore
from storage.digest import Digest


@dataclass(frozen=True, slots=True)
class Recipient:
    """For whom layers are encrypted: one pull by one node.

    Attributes:
        key: The node's encryption key.
        token_id: Id of the pull token. Every pull has other wrapped keys.
        minted_at: When the token was minted, in seconds. Layers have the keys of that time.
    """

    key: NodeKey
    token_id: str
    minted_at: int


class ImageEncryption:
    """Computes encrypted images.

    Args:
        documents: Reads the stored manifests.
        blobs: Has the layers and their keys.
    """

    def __init__(self, documents: Documents, blobs: BlobStore) -> None:
        self._documents = documents
        self._blobs = blobs

    async def encrypt(self, organization: str, image: StoredImage, recipient: Recipient) -> SessionImage:
        """Return a session's image with encrypted layers.

        Raises:
            DocumentError: The manifest would be too large, or a layer's type cannot be encrypted.
            NotDeliverableError: A layer is not stored as ciphertext.
            StorageError: As for `BlobStore.open`.
        """
        layers = await self._layers(organization, image, recipient)
        originals = {
            content.digest: await self._documents.read(organization, content.digest)
            for content in image.contents
            if content.kind in {ContentKind.MANIFEST, ContentKind.INDEX}
        }
        return await asyncio.to_thread(_build, image, originals, layers, recipient.key)

    async def _layers(
        self, organization: str, image: StoredImage, recipient: Recipient
    ) -> Mapping[Digest, LayerSecrets]:
        info = f"jwe {recipient.token_id} {recipient.key.thumbprint}".encode()
        digests = [
            content.digest
            for content in image.contents
            if content.kind is ContentKind.LAYER and must_encrypt(content.media_type)
        ]
        keys = await self._blobs.delivery_keys(organization, digests, recipient.minted_at)
        return {
            digest: LayerSecrets(
                ciphertext=key.ciphertext,
                symkey=key.symkey,
                nonce=key.nonce,
                hmac=key.hmac,
                head=key.head,
                seed=key.derive(info),
            )
            for digest, key in keys.items()
        }


def _build(
    image: StoredImage,
    originals: Mapping[Digest, bytes],
    layers: Mapping[Digest, LayerSecrets],
    key: NodeKey,
) -> SessionImage:
    documents: dict[Digest, bytes] = {}
    contents: dict[Digest, ImageContent] = {}

    def enter(content: ImageContent, media_type: str, document: bytes) -> None:
        digest = Digest.of(document)
        documents[digest] = document
        contents[content.digest] = ImageContent(
            digest, content.kind, media_type, len(document), plaintext=content.digest
        )

    for content in image.contents:
        if content.kind is ContentKind.MANIFEST:
            plain = originals[content.digest]
            original = original_digest(plain) if image.variant is Variant.ZSTD else content.digest
            enter(content, OCI_MANIFEST, encrypted_manifest(plain, original, layers, key))
    manifests = {digest: (each.digest, each.size_bytes) for digest, each in contents.items()}
    for content in image.contents:
        if content.kind is ContentKind.INDEX:
            plain = originals[content.digest]
            enter(content, OCI_INDEX, encrypted_index(plain, content.digest, manifests))
        elif content.digest in layers:
            ciphertext = layers[content.digest].ciphertext
            contents[content.digest] = replace(content, digest=ciphertext, plaintext=content.digest)

    def replaced(digest: Digest) -> Digest:
        return contents[digest].digest if digest in contents else digest

    visible = replace(
        image,
        digest=replaced(image.digest),
        manifest_digest=replaced(image.manifest_digest),
        index_digest=replaced(image.index_digest) if image.index_digest else None,
        contents=tuple(contents.get(content.digest, content) for content in image.contents),
        platforms=(),
        zstd=None,
    )
    return SessionImage(image, visible, documents)
