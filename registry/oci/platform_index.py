"""Index of the imported platforms of an image. No I/O.

A client chooses the best platform for its machine. From the original index it could choose one that was not
imported, although it can run an imported one (arm/v6 instead of arm/v7).
"""

import json
from collections.abc import Sequence

from registry.oci.documents import Descriptor, Index
from registry.oci.platform import Platform


def lists_only(index: Index, manifests: Sequence[Descriptor]) -> bool:
    """Return whether an index lists these manifests and nothing else."""
    return {entry.digest for entry in index.manifests} == {manifest.digest for manifest in manifests}


def platform_index(media_type: str, manifests: Sequence[tuple[Descriptor, Platform]]) -> bytes:
    """Return an index of manifests, in this order; always the same bytes for the same arguments."""
    entries = [
        {
            "mediaType": manifest.media_type,
            "digest": str(manifest.digest),
            "size": manifest.size_bytes,
            "platform": _fields(platform),
        }
        for manifest, platform in manifests
    ]
    index = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
    return json.dumps(index, separators=(",", ":")).encode()


def _fields(platform: Platform) -> dict[str, str]:
    fields = {"architecture": platform.architecture, "os": platform.os}
    return fields | ({"variant": platform.variant} if platform.variant else {})
