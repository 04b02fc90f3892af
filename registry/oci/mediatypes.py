"""Media types of images (OCI image-spec, media-types.md; Docker Image Manifest V 2, Schema 2)."""

from typing import Final

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_ARTIFACT_MANIFEST: Final = "application/vnd.oci.artifact.manifest.v1+json"

DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"

INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFESTS: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIGS: Final = frozenset({OCI_CONFIG, DOCKER_CONFIG})
CONFIG_OF: Final = {OCI_MANIFEST: OCI_CONFIG, DOCKER_MANIFEST: DOCKER_CONFIG}
#: What file servers and object stores send as Content-Type for any JSON document.
GENERIC: Final = frozenset(
    {"", "application/json", "application/octet-stream", "binary/octet-stream", "text/plain"}
)
_SAY_NOTHING: Final = frozenset({None, "", "application/octet-stream", "application/json", "text/html"})
SCHEMA_1: Final = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
LAYER_PREFIXES: Final = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")

#: Media types in the Accept headers of a pull. Each is sent in a separate header, as Docker does.
ACCEPTED: Final = (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST)


def bare(content_type: str) -> str:
    """Strip parameters and case from a Content-Type (RFC 9110, section 8.3.1)."""
    return content_type.partition(";")[0].strip().lower()


def says_nothing(media_type: object) -> bool:
    """Return whether a config's media type is one that servers use for any content."""
    return isinstance(media_type, str | None) and media_type in _SAY_NOTHING
