"""Manifest of an image's zstd variant, with the same config as the original. No I/O.

The config is unchanged, and with it the diff ids and the image id. The layers have new descriptors with OCI
media types, also if the original's manifest is Docker's.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from registry.errors import DocumentError
from registry.oci import mediatypes
from registry.oci.config import read_config
from registry.oci.documents import MAX_DOCUMENT_BYTES, MAX_LAYERS, Descriptor
from registry.oci.strict_json import parse_object
from storage.digest import Digest
from storage.errors import DigestError

ORIGINAL_ANNOTATION: Final = "vnd.crisper.original.digest"
"""Annotation of a variant's manifest that contains the digest of the original."""

_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
OCI_ZSTD_LAYER: Final = f"{_OCI_LAYER}+zstd"

ENCODABLE: Final = frozenset(
    {_OCI_LAYER, f"{_OCI_LAYER}+gzip", OCI_ZSTD_LAYER, _DOCKER_LAYER, f"{_DOCKER_LAYER}.gzip"}
)
"""Media types of layers that can be recompressed. Foreign, encrypted and unknown layers are unchanged."""

OCI_LAYERS: Final = frozenset({_OCI_LAYER, f"{_OCI_LAYER}+gzip", OCI_ZSTD_LAYER})

_IN_OCI: Final = {
    mediatypes.DOCKER_CONFIG: mediatypes.OCI_CONFIG,
    _DOCKER_LAYER: _OCI_LAYER,
    f"{_DOCKER_LAYER}.gzip": f"{_OCI_LAYER}+gzip",
    f"{_DOCKER_LAYER}.zstd": OCI_ZSTD_LAYER,
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    ),
}

# Annotations about the inside of the original blob (tables of contents, encryption), which are wrong for
# another encoding.
_OF_THE_ENCODING: Final = (
    "containerd.io/snapshot/",
    "io.containers.estargz.",
    "io.github.containers.zstd-chunked.",
    "org.opencontainers.image.enc.",
    "vnd.crisper.head",
)


def in_oci(media_type: str) -> str:
    """Return OCI's media type for Docker's, and any other type unchanged."""
    return _IN_OCI.get(media_type, media_type)


def parse_diff_ids(config: bytes) -> tuple[Digest, ...]:
    """Return the diff ids in an image's config (OCI image-spec, config.md, "rootfs").

    Returns:
        The diff ids, base first; empty if the config has none, as with some tools.

    Raises:
        DocumentError: The config's diff ids are not a list of digests.
    """
    listed = read_config(config)["rootfs"].get("diff_ids")
    if listed is None:
        return ()
    if not isinstance(listed, list) or len(listed) > MAX_LAYERS:
        raise DocumentError("the image's config has no valid list of diff ids")
    try:
        return tuple(Digest.parse(text if isinstance(text, str) else "") for text in listed)
    except DigestError:
        raise DocumentError("the image's config has a diff id that is not a digest") from None


def original_digest(variant: bytes) -> Digest:
    """Return the digest of the original, from a variant's manifest."""
    return Digest.parse(parse_object(variant, "the manifest")["annotations"][ORIGINAL_ANNOTATION])


def variant_manifest(original: bytes, digest: Digest, encoded: Mapping[Digest, Descriptor]) -> bytes:
    """Return the manifest of an image with recompressed layers.

    Args:
        original: A valid manifest.
        digest: Digest of `original`.
        encoded: New descriptors by digest of the original layer.

    Raises:
        DocumentError: The manifest would be over the size limit, or has invalid annotations.
    """
    return rewrite_layers(original, digest, lambda layer: _encoded(layer, encoded))


def rewrite_layers(
    original: bytes, digest: Digest, describe: Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
) -> bytes:
    """Return the OCI manifest of an image, some layers of which have another encoding.

    All other content of the original is kept: annotations of manifest and layers, platform, subject. Only
    annotations about a layer's original encoding are removed.

    Args:
        original: A valid manifest.
        digest: Digest for the annotation `ORIGINAL_ANNOTATION`.
        describe: Gets a layer's descriptor with its OCI media type. Returns the fields that replace the
            descriptor's; its annotations are added. Returns None for an unchanged layer.

    Raises:
        DocumentError: The manifest would be over the size limit, or has invalid annotations.
    """
    fields = dict(parse_object(original, "the manifest"))
    annotations = {**annotations_of(fields), ORIGINAL_ANNOTATION: str(digest)}
    manifest = fields | {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": _config(fields["config"]),
        "layers": [_layer(_in_oci(layer), describe) for layer in fields["layers"] or ()],
        "annotations": annotations,
    }
    return dump_document(manifest, "the rewritten manifest")


def dump_document(fields: Mapping[str, Any], what: str) -> bytes:
    """Serialize a manifest or an index, in ASCII: JSON can escape characters that UTF-8 cannot encode.

    Raises:
        DocumentError: It would be over the size limit.
    """
    data = json.dumps(fields, separators=(",", ":")).encode()
    if len(data) > MAX_DOCUMENT_BYTES:
        raise DocumentError(f"{what} is over {MAX_DOCUMENT_BYTES >> 20} MiB")
    return data


def _encoded(layer: Mapping[str, Any], encoded: Mapping[Digest, Descriptor]) -> Mapping[str, Any] | None:
    found = encoded.get(Digest.parse(layer["digest"]))
    if found is None:
        return None
    return {"mediaType": found.media_type, "digest": str(found.digest), "size": found.size_bytes}


def _layer(
    layer: Mapping[str, Any], describe: Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
) -> Mapping[str, Any]:
    described = describe(layer)
    if described is None:
        return layer
    kept = {name: value for name, value in layer.items() if name not in {"urls", "data", "annotations"}}
    annotations = {
        name: text for name, text in annotations_of(layer).items() if not name.startswith(_OF_THE_ENCODING)
    }
    annotations.update(described.get("annotations", {}))
    return {**kept, **described, **({"annotations": annotations} if annotations else {})}


def annotations_of(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the annotations of a manifest or a descriptor; empty if there are none. Raises DocumentError."""
    found = value.get("annotations") or {}
    if not isinstance(found, Mapping):
        raise DocumentError("the annotations are not a map of strings")
    return found


def _config(descriptor: Mapping[str, Any]) -> Mapping[str, Any]:
    if mediatypes.says_nothing(descriptor.get("mediaType")):
        return {**descriptor, "mediaType": mediatypes.OCI_CONFIG}
    return _in_oci(descriptor)


def _in_oci(descriptor: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**descriptor, "mediaType": in_oci(descriptor["mediaType"])}
