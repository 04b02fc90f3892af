"""What is attached to an image: signatures, SBOMs, attestations, and how clients find them.

Clients ask the referrers API of a digest (distribution-spec, "Listing Referrers"), or for a tag that
is made of the digest (`sha256-<hex>.sig`: cosign's scheme). One record per image answers both.
"""

import json
from collections.abc import Mapping, Sequence
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
    """Return the tag under which something about a digest is found; without suffix, its referrers."""
    return f"{subject.algorithm}-{subject.hex[:64]}{suffix}"


@dataclass(slots=True)
class Attachments:
    """The record.

    Attributes:
        referrers: Subject to the descriptors of what refers to it.
        tags: Tag to what it names.
    """

    referrers: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what `dump` wrote.

        Raises:
            DocumentError: It is something else.
        """
        fields = parse_object(data, "the record of attachments")
        try:
            return cls(dict(fields["referrers"]), dict(fields["tags"]))
        except (KeyError, TypeError, ValueError):
            raise DocumentError("the record of attachments is incomplete") from None

    def dump(self) -> bytes:
        """Write the record."""
        return json.dumps({"referrers": self.referrers, "tags": self.tags}, separators=(",", ":")).encode()

    def refer(self, artifact: Artifact, digest: Digest, size_bytes: int) -> None:
        """Enter an artifact under its subject."""
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
        """Return what a tag names, or None."""
        try:
            return Digest.parse(self.tags[tag])
        except (KeyError, DigestError):
            return None

    def index(self, subject: Digest, artifact_type: str | None) -> bytes:
        """Write the list of a subject's referrers, of one artifact type or of all."""
        entries: Sequence[Mapping[str, Any]] = self.referrers.get(str(subject), [])
        if artifact_type is not None:
            entries = [entry for entry in entries if entry["artifactType"] == artifact_type]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        return json.dumps(document, separators=(",", ":")).encode()
