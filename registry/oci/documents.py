"""Parsing of untrusted manifests, indexes and configs.

Ambiguous documents are refused: media type, Content-Type and fields must agree, so that no client reads a
document as an index that another client reads as a manifest (OCI image-spec, manifest.md and image-index.md;
GHSA-77vh-xpmg-72qh).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from registry.errors import DocumentError
from registry.oci import mediatypes
from registry.oci.platform import UNKNOWN, Platform, read_platform
from registry.oci.strict_json import is_text_map, is_texts, parse_object, refuse_other_case
from storage.digest import Digest
from storage.errors import DigestError

MAX_DOCUMENT_BYTES: Final = 4 << 20
MAX_LAYERS: Final = 256
MAX_INDEX_ENTRIES: Final = 1024
MAX_ARTIFACT_BLOBS: Final = 32
MAX_ANNOTATIONS_CHARS: Final = 32 << 10
MAX_BLOB_BYTES: Final = (1 << 63) - 1

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][\w!#$&^.+-]{0,126}/[A-Za-z0-9][\w!#$&^.+-]{0,126}", re.ASCII)
_FIELDS: Final = (
    *("annotations", "artifactType", "config", "layers"),
    *("manifests", "mediaType", "schemaVersion", "subject"),
)
_DESCRIPTOR_FIELDS: Final = (
    *("annotations", "artifactType", "data", "digest"),
    *("mediaType", "platform", "size", "urls"),
)
_REFERENCE_TYPE = "vnd.docker.reference.type"
_ATTESTATION = "attestation-manifest"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Descriptor of a blob (OCI image-spec, descriptor.md).

    Attributes:
        platform: Platform; optional, and only in an index.
        attestation: Whether this is a BuildKit attestation, which is not an image.
    """

    media_type: str
    digest: Digest
    size_bytes: int
    platform: Platform | None = None
    attestation: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """Manifest of one platform's image: config and layers, base first. Layers may repeat."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers, each digest once."""
        unique: dict[Digest, Descriptor] = {}
        for blob in (self.config, *self.layers):
            unique.setdefault(blob.digest, blob)
        return tuple(unique.values())


@dataclass(frozen=True, slots=True)
class Index:
    """Index of an image for several platforms. It may contain further indexes."""

    media_type: str
    manifests: tuple[Descriptor, ...]

    def candidates(self, wanted: Platform) -> Iterator[Descriptor]:
        """Yield descriptors that may be the image for a platform, best first.

        Exact matches come first, then compatible platforms of the same architecture, then descriptors without
        a platform: nested indexes, and manifests whose config contains the platform. Another architecture
        that the node can run comes last. Attestations are never candidates.
        """
        images = [entry for entry in self.manifests if not entry.attestation and entry.platform != UNKNOWN]
        runnable = tuple(wanted.runnable())
        same = (platform for platform in runnable if platform.architecture == wanted.architecture)
        others = (platform for platform in runnable if platform.architecture != wanted.architecture)
        for platform in (*same, None, *others):
            yield from (entry for entry in images if entry.platform == platform)


@dataclass(frozen=True, slots=True)
class Artifact:
    """Manifest of an artifact that is not an image: a signature, an SBOM, an attestation.

    Attributes:
        artifact_type: Type in a list of referrers: the manifest's, else its config's media type.
        subject: Descriptor of the image to which it refers.
        annotations: Annotations of the manifest; empty if they are over the limit.
        blobs: Config and layers, each digest once.
    """

    media_type: str
    artifact_type: str
    subject: Digest | None
    annotations: Mapping[str, str]
    blobs: tuple[Descriptor, ...]


def parse_document(data: bytes, content_type: str | None = None) -> Manifest | Index:
    """Parse a manifest or an index.

    Args:
        data: Bytes of the document, unchanged.
        content_type: Content-Type of the response; None if the bytes are not from a response.

    Raises:
        DocumentError: The document is invalid, over a limit or ambiguous, or of a kind that container
            runtimes do not run (schema 1, an artifact).
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise DocumentError(f"the manifest is over {MAX_DOCUMENT_BYTES >> 20} MiB")
    fields = parse_object(data, "the manifest")
    refuse_other_case(fields, _FIELDS, "the manifest")
    media_type = _agreed_media_type(fields, content_type)
    if media_type in mediatypes.INDEXES:
        return _index(media_type, fields)
    return _manifest(media_type, fields)


def parse_artifact(data: bytes, content_type: str | None = None) -> Artifact:
    """Parse the manifest of an artifact (OCI image-spec, manifest.md, "Guidelines for Artifact Usage").

    Raises:
        DocumentError: The document is invalid, over a limit or ambiguous, or it is an index.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise DocumentError(f"the artifact is over {MAX_DOCUMENT_BYTES >> 20} MiB")
    fields = parse_object(data, "the artifact")
    media_type = _agreed_media_type(fields, content_type)
    if media_type not in mediatypes.MANIFESTS:
        raise DocumentError("the artifact is an index")
    config = _descriptor(fields.get("config"), "config")
    layers = [_descriptor(entry, "layers") for entry in _list(fields, "layers", MAX_ARTIFACT_BLOBS)]
    _refuse_conflicts((config, *layers))
    artifact_type, subject = fields.get("artifactType"), fields.get("subject")
    if artifact_type and not (isinstance(artifact_type, str) and _MEDIA_TYPE.fullmatch(artifact_type)):
        raise DocumentError("the artifact has no valid artifactType")
    return Artifact(
        media_type,
        artifact_type or config.media_type,
        None if subject is None else _descriptor(subject, "subject").digest,
        _annotations(fields.get("annotations")),
        tuple({blob.digest: blob for blob in (config, *layers)}.values()),
    )


def _agreed_media_type(fields: Mapping[str, Any], content_type: str | None) -> str:
    """Return the media type on which header, field and structure agree. Raises DocumentError."""
    declared = None if fields.get("mediaType") == "" else fields.get("mediaType")
    header = mediatypes.bare(content_type) if content_type is not None else None
    header = None if header in mediatypes.GENERIC else header
    if header in mediatypes.SCHEMA_1 or fields.get("schemaVersion") == 1 or "fsLayers" in fields:
        raise DocumentError(
            "the manifest is Docker schema 1, which is no longer supported: push the image again"
        )
    if declared is not None and not isinstance(declared, str):
        raise DocumentError("the manifest's mediaType is not a string")
    if declared is not None and header is not None and declared != header:
        raise DocumentError("the manifest's mediaType and its Content-Type do not agree")
    media_type = declared or header or _structural_type(fields)
    if media_type == mediatypes.OCI_ARTIFACT_MANIFEST:
        raise DocumentError("this is an OCI artifact, not a container image: give the name of an image")
    if media_type not in mediatypes.INDEXES | mediatypes.MANIFESTS:
        raise DocumentError("this kind of manifest is not supported: give the name of an image")
    if fields.get("schemaVersion") != 2:  # noqa: PLR2004 - the only version there is
        raise DocumentError("the manifest's schemaVersion is not 2")
    if "manifests" in fields and ("layers" in fields or "config" in fields):
        raise DocumentError("the manifest has both manifests and layers")
    if ("manifests" in fields) != (media_type in mediatypes.INDEXES):
        raise DocumentError("the manifest's fields do not match its media type")
    return str(media_type)


def _structural_type(fields: Mapping[str, Any]) -> str:
    return mediatypes.OCI_INDEX if "manifests" in fields else mediatypes.OCI_MANIFEST


def _index(media_type: str, fields: Mapping[str, Any]) -> Index:
    entries = _list(fields, "manifests", MAX_INDEX_ENTRIES)
    return Index(media_type, tuple(_descriptor(entry, "manifests") for entry in entries))


def _manifest(media_type: str, fields: Mapping[str, Any]) -> Manifest:
    if "layers" in fields and fields["layers"] is None:
        fields = {**fields, "layers": []}  # Go's encoding of no layers
    config = _image_config(media_type, fields)
    if config.size_bytes > MAX_DOCUMENT_BYTES:
        raise DocumentError(f"the image's config is over {MAX_DOCUMENT_BYTES >> 20} MiB")
    layers = tuple(_descriptor(entry, "layers") for entry in _list(fields, "layers", MAX_LAYERS))
    if not all(layer.media_type.startswith(mediatypes.LAYER_PREFIXES) for layer in layers):
        raise DocumentError(
            "this is an OCI artifact, whose layers are no file systems: give the name of an image"
        )
    _refuse_conflicts((config, *layers))
    if not is_text_map(fields.get("annotations")):
        raise DocumentError("the manifest's annotations are not a map of strings")
    return Manifest(media_type, config, layers)


def _image_config(media_type: str, fields: Mapping[str, Any]) -> Descriptor:
    """Return the descriptor of an image's config, with the type that it would have today.

    Old registries and builders gave configs types that say nothing (distribution/distribution#1621). Docker
    still pulls such images; their layers show that they are images.
    """
    value = fields.get("config")
    if isinstance(value, dict) and fields.get("layers") and mediatypes.says_nothing(value.get("mediaType")):
        return _descriptor({**value, "mediaType": mediatypes.CONFIG_OF[media_type]}, "config")
    config = _descriptor(value, "config")
    if config.media_type not in mediatypes.CONFIGS:
        raise DocumentError("this is an OCI artifact, not a container image: give the name of an image")
    return config


def _refuse_conflicts(blobs: Sequence[Descriptor]) -> None:
    sizes: dict[Digest, int] = {}
    for blob in blobs:
        if sizes.setdefault(blob.digest, blob.size_bytes) != blob.size_bytes:
            raise DocumentError("the manifest has two sizes for one digest")


def _list(fields: Mapping[str, Any], name: str, limit: int) -> Sequence[Any]:
    value = fields.get(name)
    if not isinstance(value, list):
        raise DocumentError(f"the manifest has no list of {name}")
    if len(value) > limit:
        raise DocumentError(f"the manifest has more than {limit} {name}")
    return value


def _descriptor(value: object, where: str) -> Descriptor:
    if not isinstance(value, dict):
        raise DocumentError(f"the manifest has no valid descriptor in {where}")
    refuse_other_case(value, _DESCRIPTOR_FIELDS, f"a descriptor in {where}")
    if not is_text_map(value.get("annotations")) or not is_texts(value.get("urls")):
        raise DocumentError(f"a descriptor in {where} has no valid annotations or urls")
    media_type, size, digest = (value.get(name) for name in ("mediaType", "size", "digest"))
    if not isinstance(media_type, str) or not _MEDIA_TYPE.fullmatch(media_type):
        raise DocumentError(f"a descriptor in {where} has no valid mediaType")
    if type(size) is not int or not 0 <= size <= MAX_BLOB_BYTES:
        raise DocumentError(f"a descriptor in {where} has no valid size")
    try:
        parsed = Digest.parse(digest if isinstance(digest, str) else "")
    except DigestError:
        raise DocumentError(f"a descriptor in {where} has no valid digest") from None
    platform = value.get("platform")
    return Descriptor(
        media_type,
        parsed,
        size,
        None if platform is None else read_platform(platform),
        _is_attestation(value.get("annotations")),
    )


def _annotations(value: object) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise DocumentError("the annotations are not a map of strings")
    return value if sum(map(len, (*value, *value.values()))) <= MAX_ANNOTATIONS_CHARS else {}


def _is_attestation(annotations: object) -> bool:
    return isinstance(annotations, dict) and annotations.get(_REFERENCE_TYPE) == _ATTESTATION
