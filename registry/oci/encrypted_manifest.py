"""Manifest and index of an image whose layers are encrypted for one node. No I/O.

The layers are in ocicrypt's format (docs/encrypted-delivery.md): an annotation of each descriptor has the
layer's key, wrapped for the node. The config is unchanged, and with it the diff ids, by which the runtime
checks what it unpacks.
"""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from registry.errors import DocumentError
from registry.oci import mediatypes
from registry.oci.node_key import NodeKey
from registry.oci.strict_json import parse_object
from registry.oci.variant import (
    OCI_LAYERS,
    ORIGINAL_ANNOTATION,
    annotations_of,
    dump_document,
    in_oci,
    rewrite_layers,
)
from storage.digest import Digest

KEYS_ANNOTATION: Final = "org.opencontainers.image.enc.keys.jwe"
OPTIONS_ANNOTATION: Final = "org.opencontainers.image.enc.pubopts"
HEAD_ANNOTATION: Final = "vnd.crisper.head"
"""Annotation of a layer: sha256 of the ciphertext's first 4096 bytes, in hex."""

PLAINTEXT_DIGEST: Final = "Crisper-Plaintext-Digest"
"""Header of an encrypted manifest's or index's response: digest of the document before encryption."""

CIPHER: Final = "AES_256_CTR_HMAC_SHA256"
ENCRYPTED_SUFFIX: Final = "+encrypted"

_REFERENCE_DIGEST = "vnd.docker.reference.digest"
_NONDISTRIBUTABLE = ".layer.nondistributable."


@dataclass(frozen=True, slots=True, repr=False)
class LayerSecrets:
    """What a node needs to open one layer, and what the wrapping of it is derived from.

    Attributes:
        ciphertext: Digest of the encrypted layer.
        symkey: 32 bytes: key of AES-256-CTR and of the HMAC.
        nonce: 16 bytes: initial counter.
        hmac: HMAC-SHA256 of the ciphertext.
        head: sha256 of the ciphertext's first 4096 bytes.
        seed: 32 bytes for this layer, token and node key, which no node gets.
    """

    ciphertext: Digest
    symkey: bytes
    nonce: bytes
    hmac: bytes
    head: bytes
    seed: bytes

    def __reduce__(self) -> str:
        raise TypeError("secrets are not serialized")


def encrypted_media_type(media_type: str) -> str | None:
    """Return the media type of an encrypted layer; None if clients have none for this type.

    Clients have one for tar, plain or compressed with gzip or zstd. A layer that Crisper stores can be
    distributed, so "nondistributable" is dropped. Encrypted layers and unknown types have none.
    """
    known = in_oci(media_type).replace(_NONDISTRIBUTABLE, ".layer.")
    return f"{known}{ENCRYPTED_SUFFIX}" if known in OCI_LAYERS else None


def must_encrypt(media_type: str) -> bool:
    """Return whether Crisper encrypts a layer of this type; False if its publisher already did.

    Raises:
        DocumentError: It should be encrypted, and clients have no type for that.
    """
    if media_type.endswith(ENCRYPTED_SUFFIX):
        return False
    if encrypted_media_type(media_type) is None:
        raise DocumentError(f"a layer of the type {media_type} cannot be encrypted")
    return True


def encrypted_manifest(
    plain: bytes, original: Digest, layers: Mapping[Digest, LayerSecrets], key: NodeKey
) -> bytes:
    """Return the manifest of an image for one node; the same bytes for the same arguments.

    Args:
        plain: A valid manifest, of the image as imported or of a variant.
        original: Digest of the manifest as imported, for an annotation.
        layers: Secrets by digest of the plaintext layer. Other layers are unchanged.
        key: Key for which the layers' keys are wrapped.

    Raises:
        DocumentError: The manifest would be over the size limit, has invalid annotations, or has a layer of a
            type that cannot be encrypted.
    """
    annotations = {digest: _annotations(digest, secrets, key) for digest, secrets in layers.items()}

    def describe(layer: Mapping[str, Any]) -> Mapping[str, Any] | None:
        digest = Digest.parse(layer["digest"])
        if digest not in layers:
            return None
        media_type = encrypted_media_type(layer["mediaType"])
        if media_type is None:
            raise DocumentError(f"a layer of the type {layer['mediaType']} cannot be encrypted")
        described = {"mediaType": media_type, "digest": str(layers[digest].ciphertext)}
        return described | {"annotations": annotations[digest]}

    return rewrite_layers(plain, original, describe)


def encrypted_index(plain: bytes, original: Digest, replaced: Mapping[Digest, tuple[Digest, int]]) -> bytes:
    """Return an index whose entries point to encrypted manifests.

    Annotations that name a replaced manifest (BuildKit's attestations) name the encrypted one.

    Args:
        plain: A valid index.
        original: Digest of the index as imported, for an annotation.
        replaced: Digest and size in bytes of the encrypted manifest, by digest of the plain one.

    Raises:
        DocumentError: The index would be over the size limit, or has invalid annotations.
    """
    by_text = {str(digest): encrypted for digest, encrypted in replaced.items()}
    fields = dict(parse_object(plain, "the index"))
    index = fields | {
        "mediaType": mediatypes.OCI_INDEX,
        "manifests": [_entry(entry, by_text) for entry in fields["manifests"]],
        "annotations": {**annotations_of(fields), ORIGINAL_ANNOTATION: str(original)},
    }
    return dump_document(index, "the encrypted index")


def _annotations(digest: Digest, secrets: LayerSecrets, key: NodeKey) -> Mapping[str, str]:
    private = {
        "symkey": b64encode(secrets.symkey).decode(),
        "digest": str(digest),
        "cipheroptions": {"nonce": b64encode(secrets.nonce).decode()},
    }
    # The nonce is secret options only: readers prefer public ones, which the HMAC does not cover.
    public = {"cipher": CIPHER, "hmac": b64encode(secrets.hmac).decode(), "cipheroptions": {}}
    return {
        KEYS_ANNOTATION: b64encode(key.wrap(_dump(private), secrets.seed)).decode(),
        OPTIONS_ANNOTATION: b64encode(_dump(public)).decode(),
        HEAD_ANNOTATION: secrets.head.hex(),
    }


def _entry(entry: Mapping[str, Any], by_text: Mapping[str, tuple[Digest, int]]) -> Mapping[str, Any]:
    annotations = dict(annotations_of(entry))
    attested = by_text.get(str(annotations.get(_REFERENCE_DIGEST)))
    if attested is not None:
        annotations[_REFERENCE_DIGEST] = str(attested[0])
    entry = {**entry, "annotations": annotations} if annotations else entry
    if entry["digest"] not in by_text:
        return entry
    digest, size_bytes = by_text[entry["digest"]]
    is_index = entry["mediaType"] in mediatypes.INDEXES
    return {name: value for name, value in entry.items() if name not in {"urls", "data"}} | {
        "mediaType": mediatypes.OCI_INDEX if is_index else mediatypes.OCI_MANIFEST,
        "digest": str(digest),
        "size": size_bytes,
    }


def _dump(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
