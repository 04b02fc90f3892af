"""The zstd variant of an image: a second manifest over the same config (pure).

The config stays what it is, byte for byte, and with it the diff ids and the image id that runtimes know.
Layers are described anew, as OCI has them, whatever the original's manifest is.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from registry.errors import DocumentError
from registry.oci import mediatypes
from registry.oci.documents import MAX_DOCUMENT_BYTES, MAX_LAYERS, Descriptor
from registry.oci.strict_json import parse_object
from storage.digest import Digest
from storage.errors import DigestError

ORIGINAL_ANNOTATION: Final = "vnd.crisper.original.digest"
"""Names, in a variant's manifest, the manifest that it stands for."""

_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
OCI_ZSTD_LAYER: Final = f"{_OCI_LAYER}+zstd"

ENCODABLE: Final = frozenset(
    {_OCI_LAYER, f"{_OCI_LAYER}+gzip", OCI_ZSTD_LAYER, _DOCKER_LAYER, f"{_DOCKER_LAYER}.gzip"}
)
"""Layers that may be encoded anew. What is foreign, encrypted or unknown stays as it is."""

_IN_OCI: Final = {
    mediatypes.DOCKER_CONFIG: mediatypes.OCI_CONFIG,
    _DOCKER_LAYER: _OCI_LAYER,
    f"{_DOCKER_LAYER}.gzip": f"{_OCI_LAYER}+gzip",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    ),
}

# Tables of contents within the blob as it was: of no use, and misleading, beside another encoding.
_OF_THE_ENCODING: Final = (
    "containerd.io/snapshot/stargz/",
    "io.containers.estargz.",
    "io.github.containers.zstd-chunked.",
)


def parse_diff_ids(config: bytes) -> tuple[Digest, ...]:
    """Return what an image's config says its layers unpack to (OCI image-spec, config.md, "rootfs").

    Returns:
        The diff ids, base first; empty when it says nothing, which some tools leave at that.

    Raises:
        DocumentError: It says something that cannot be a list of digests.
    """
    rootfs = parse_object(config, "the image's config").get("rootfs")
    listed = rootfs.get("diff_ids") if isinstance(rootfs, Mapping) else None
    if listed is None:
        return ()
    if not isinstance(listed, list) or len(listed) > MAX_LAYERS:
        raise DocumentError("the image's config has no readable list of diff ids")
    try:
        return tuple(Digest.parse(text if isinstance(text, str) else "") for text in listed)
    except DigestError:
        raise DocumentError("the image's config has a diff id that is no digest") from None


def variant_manifest(original: bytes, digest: Digest, encoded: Mapping[Digest, Descriptor]) -> bytes:
    """Write the manifest of an image whose layers were encoded anew.

    Everything else that the original says is kept: annotations, its own and its layers', platform, subject.
    Only what an annotation says of a layer's former encoding goes.

    Args:
        original: A manifest that was parsed before.
        digest: Of `original`.
        encoded: What stands for which of its layers.

    Raises:
        DocumentError: It would be over the limit for manifests, or annotations are none.
    """
    fields = dict(parse_object(original, "the manifest"))
    annotations = {**_annotations(fields), ORIGINAL_ANNOTATION: str(digest)}
    manifest = fields | {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": _in_oci(fields["config"]),
        "layers": [_layer(layer, encoded) for layer in fields["layers"]],
        "annotations": annotations,
    }
    data = json.dumps(manifest, separators=(",", ":"), ensure_ascii=False).encode()
    if len(data) > MAX_DOCUMENT_BYTES:
        raise DocumentError(f"the variant's manifest is over {MAX_DOCUMENT_BYTES >> 20} MiB")
    return data


def _layer(layer: Mapping[str, Any], encoded: Mapping[Digest, Descriptor]) -> Mapping[str, Any]:
    found = encoded.get(Digest.parse(layer["digest"]))
    if found is None:
        return _in_oci(layer)
    kept = {name: value for name, value in layer.items() if name not in {"urls", "data", "annotations"}}
    annotations = {
        name: text for name, text in _annotations(layer).items() if not name.startswith(_OF_THE_ENCODING)
    }
    described = {
        "mediaType": found.media_type,
        "digest": str(found.digest),
        "size": found.size_bytes,
    }
    return kept | described | ({"annotations": annotations} if annotations else {})


def _annotations(value: Mapping[str, Any]) -> Mapping[str, Any]:
    found = value.get("annotations") or {}
    if not isinstance(found, Mapping):
        raise DocumentError("annotations are not texts by name")
    return found


def _in_oci(descriptor: Mapping[str, Any]) -> Mapping[str, Any]:
    media_type = descriptor["mediaType"]
    return {**descriptor, "mediaType": _IN_OCI.get(media_type, media_type)}
