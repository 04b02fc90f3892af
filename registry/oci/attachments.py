"""Attachments of an image: signatures, SBOMs and attestations.

Clients find them with the referrers API (distribution-spec, "Listing Referrers"), or by a tag that is derived
from the digest (`sha256-<hex>.sig`, the scheme of cosign). One record per image serves both.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from registry.errors import DocumentError
from registry.oci.documents import Artifact
from registry.oci.mediatypes import OCI_INDEX
from registry.oci.strict_json import parse_object
from storage.digest import Digest
from storage.errors import DigestError

RECORD_TYPE: Final = "application/vnd.crisper.attachments.v1+json"
TAG_SUFFIXES: Final = (".sig", ".att", ".sbom")


def subject_tag(subject: Digest, suffix: str = "") -> str:
    """Return the tag of an attachment of a digest; without suffix, the tag of its referrers."""
    return f"{subject.algorithm}-{subject.hex[:64]}{suffix}"


@dataclass(slots=True)
class Attachments:
    """Record of an image's attachments.

    Attributes:
        referrers: Descriptors of the artifacts that refer to a subject, by the subject's digest.
        tags: Digests by tag.
    """

    referrers: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse the result of `dump`.

        Raises:
            DocumentError: The data is invalid.
        """
        fields = parse_object(data, "the record of attachments")
        try:
            return cls(dict(fields["referrers"]), dict(fields["tags"]))
        except (KeyError, TypeError, ValueError):
            raise DocumentError("the record of attachments is incomplete") from None

    def dump(self) -> bytes:
        """Serialize the record."""
        return json.dumps({"referrers": self.referrers, "tags": self.tags}, separators=(",", ":")).encode()

    def refer(self, artifact: Artifact, digest: Digest, size_bytes: int) -> None:
        """Add an artifact to the referrers of its subject."""
        entry: dict[str, Any] = {
            "mediaType": artifact.media_type,
            "digest": str(digest),
            "size": size_bytes,
            "artifactType": artifact.artifact_type,
        }
        if artifact.annotations:
            entry["annotations"] = artifact.annotations
        self.referrers.setdefault(str(artifact.subject), []).append(entry)

    def tagged(self, tag: str) -> Digest | None:
        """Return the digest that a tag names, or None."""
        try:
            return Digest.parse(self.tags[tag])
        except (KeyError, DigestError):
            return None

    def index(self, subject: Digest, artifact_type: str | None) -> bytes:
        """Return a subject's referrers as an index, of one artifact type or of all."""
        entries: Sequence[Mapping[str, Any]] = self.referrers.get(str(subject), [])
        if artifact_type is not None:
            entries = [entry for entry in entries if entry["artifactType"] == artifact_type]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        return json.dumps(document, separators=(",", ":")).encode()


def attested_manifests(index: bytes, manifests: Collection[Digest]) -> Iterator[tuple[Digest, Digest]]:
    """Yield the attestations that BuildKit lists in an image's index (moby/buildkit, attestation-storage.md).

    Args:
        index: The index, which `parse_document` accepted.
        manifests: Only attestations of these manifests are wanted.

    Yields:
        The digest of a manifest, and that of its attestation's manifest.
    """
    wanted = {str(digest): digest for digest in manifests}
    for entry in parse_object(index, "the index")["manifests"]:
        annotations = entry.get("annotations") or {}
        subject = wanted.get(annotations.get("vnd.docker.reference.digest") or "")
        if subject is not None and annotations.get("vnd.docker.reference.type") == "attestation-manifest":
            yield subject, Digest.parse(entry["digest"])
