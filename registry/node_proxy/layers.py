"""Which encrypted layer or manifest stands for which original one. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass

from registry.decoder.descriptors import parse_layer
from registry.decoder.keys import KeyFolder, LayerKey
from registry.errors import DecoderError, DocumentError, JweKeyMismatchError
from registry.oci.documents import Index, Manifest
from registry.oci.encrypted_manifest import ENCRYPTED_SUFFIX
from registry.oci.strict_json import parse_object
from storage.digest import Digest


@dataclass(frozen=True, slots=True)
class EncryptedBlob:
    """A layer that arrives as ciphertext.

    Attributes:
        plaintext: Digest of the original layer.
        ciphertext: Digest under which the registry has it.
        size_bytes: Size of both.
        hmac: HMAC-SHA256 of the ciphertext.
    """

    plaintext: Digest
    ciphertext: Digest
    size_bytes: int
    key: LayerKey
    hmac: bytes


def match_layers(original: Manifest, encrypted: bytes, keys: KeyFolder) -> Mapping[Digest, EncryptedBlob]:
    """Return the encrypted layers by the digests of the original ones.

    Layers that are not encrypted are left out.

    Args:
        original: The manifest before encryption.
        encrypted: The manifest for this node.
        keys: The node's private keys.

    Raises:
        DecoderError: No key opens a layer.
        DocumentError: The manifests do not match.
    """
    listed = parse_object(encrypted, "the encrypted manifest").get("layers")
    if not isinstance(listed, list) or len(listed) != len(original.layers):
        raise DocumentError("the encrypted manifest has another number of layers than the original")
    found: dict[Digest, EncryptedBlob] = {}
    for layer, descriptor in zip(original.layers, listed, strict=True):
        if descriptor.get("digest") == str(layer.digest):
            continue
        media_type = str(descriptor.get("mediaType"))
        if not media_type.endswith(ENCRYPTED_SUFFIX) or descriptor.get("size") != layer.size_bytes:
            raise DocumentError(f"the encrypted manifest has another layer than {layer.digest}")
        parsed = parse_layer(descriptor)
        try:
            key = keys.open(parsed)
        except JweKeyMismatchError:
            raise DecoderError(keys.explain(parsed)) from None
        ciphertext = Digest.parse(parsed.digest)
        found[layer.digest] = EncryptedBlob(layer.digest, ciphertext, layer.size_bytes, key, parsed.hmac)
    return found


def match_manifests(original: Index, encrypted: bytes) -> Mapping[Digest, Digest]:
    """Return the digests of encrypted manifests by those of the original ones. Raises DocumentError."""
    listed = parse_object(encrypted, "the encrypted index").get("manifests")
    if not isinstance(listed, list) or len(listed) != len(original.manifests):
        raise DocumentError("the encrypted index has another number of manifests than the original")
    pairs = zip(original.manifests, listed, strict=True)
    return {entry.digest: Digest.parse(str(descriptor.get("digest"))) for entry, descriptor in pairs}
