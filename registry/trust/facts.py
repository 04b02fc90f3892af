"""What an image's publisher states about it: bills of materials, provenance and the base image.

Nothing here is verified: signatures are checked by policies only (registry/trust/judge.py).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from registry.errors import SignatureError
from registry.oci.strict_json import parse_object
from registry.trust.encoding import decode_base64
from registry.trust.provenance import MAX_CHARS, Provenance, read_provenance
from registry.trust.signatures import BUNDLE_TYPE, DSSE_TYPE, PROVENANCE_PREDICATES
from registry.trust.statements import IN_TOTO, Statement, parse, read_statement
from storage.digest import Digest
from storage.errors import DigestError

MAX_SBOMS: Final = 8
MAX_PROVENANCE_BYTES: Final = 1 << 20

#: Annotations with the type of a predicate: of BuildKit, cosign 2 and cosign 3.
_PREDICATE_TYPES: Final = ("in-toto.io/predicate-type", "predicateType", "dev.sigstore.bundle.predicateType")
_STATEMENT_TYPES: Final = frozenset({IN_TOTO, DSSE_TYPE, BUNDLE_TYPE})
_BASE_NAME: Final = "org.opencontainers.image.base.name"
_BASE_DIGEST: Final = "org.opencontainers.image.base.digest"


class SbomFormat(StrEnum):
    """Format of a bill of materials."""

    SPDX = "spdx"
    CYCLONEDX = "cyclonedx"


_MEDIA_TYPES: Final = {
    (SbomFormat.SPDX, "json"): "application/spdx+json",
    (SbomFormat.SPDX, "xml"): "application/xml",
    (SbomFormat.SPDX, "text"): "text/spdx",
    (SbomFormat.CYCLONEDX, "json"): "application/vnd.cyclonedx+json",
    (SbomFormat.CYCLONEDX, "xml"): "application/vnd.cyclonedx+xml",
}
_PREDICATES: Final = {
    "https://spdx.dev/Document": SbomFormat.SPDX,
    "https://cyclonedx.org/bom": SbomFormat.CYCLONEDX,
}


@dataclass(frozen=True, slots=True)
class Sbom:
    """Reference to a stored bill of materials.

    Attributes:
        digest: Digest of the stored blob.
        media_type: Media type of the document.
        size_bytes: Size of the stored blob.
        attested: Whether the blob is a statement whose predicate is the document.
    """

    format: SbomFormat
    digest: Digest
    media_type: str
    size_bytes: int
    attested: bool


@dataclass(frozen=True, slots=True)
class BaseImage:
    """The image from which an image was built, by the annotations of its manifest."""

    name: str | None
    digest: str | None


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is stated about an image of one platform."""

    sboms: tuple[Sbom, ...] = ()
    provenance: Provenance | None = None
    base: BaseImage | None = None

    def joined(self, other: "ImageFacts") -> "ImageFacts":
        """Return the facts of both. Of two provenances or bases, the first is used."""
        sboms = {each.digest: each for each in (*self.sboms, *other.sboms)}
        provenance, base = self.provenance or other.provenance, self.base or other.base
        return ImageFacts(tuple(sboms.values())[:MAX_SBOMS], provenance, base)

    def dump(self) -> dict[str, Any]:
        """Return the facts as JSON."""
        sboms = [
            {
                "format": each.format.value,
                "digest": str(each.digest),
                "media_type": each.media_type,
                "size_bytes": each.size_bytes,
                "attested": each.attested,
            }
            for each in self.sboms
        ]
        provenance, base = self.provenance, self.base
        return {
            "sboms": sboms,
            "provenance": provenance and {"builder": provenance.builder, "source": provenance.source},
            "base": base and {"name": base.name, "digest": base.digest},
        }

    @classmethod
    def load(cls, fields: Mapping[str, Any] | None) -> "ImageFacts":
        """Return the facts that `dump` wrote; none for None."""
        if fields is None:
            return cls()
        sboms = (
            Sbom(
                SbomFormat(each["format"]),
                Digest.parse(each["digest"]),
                each["media_type"],
                each["size_bytes"],
                each["attested"],
            )
            for each in fields["sboms"]
        )
        provenance, base = fields["provenance"], fields["base"]
        return cls(
            tuple(sboms),
            Provenance(**provenance) if provenance else None,
            BaseImage(**base) if base else None,
        )


def facts_in_artifact(manifest: bytes, blobs: Mapping[Digest, bytes]) -> ImageFacts:
    """Return what an attached artifact states about its subject.

    Args:
        manifest: The artifact's manifest, which `parse_artifact` accepted.
        blobs: The artifact's blobs.
    """
    fields = parse_object(manifest, "the artifact")
    found = ImageFacts()
    for layer in fields["layers"]:
        data = blobs[Digest.parse(layer["digest"])]
        annotations = {**(fields.get("annotations") or {}), **(layer.get("annotations") or {})}
        if layer["mediaType"] in _STATEMENT_TYPES:
            stated = _in_statement(layer, annotations, data)
        else:
            stated = _in_document(layer, fields.get("artifactType"), data)
        found = found.joined(stated)
    return found


def base_in_manifest(manifest: bytes) -> ImageFacts:
    """Return the base image that an image's manifest names. The manifest was parsed before."""
    annotations = parse_object(manifest, "the manifest").get("annotations") or {}
    name, digest = annotations.get(_BASE_NAME), annotations.get(_BASE_DIGEST)
    base = BaseImage(name if _is_shown(name) else None, digest if _is_digest(digest) else None)
    return ImageFacts(base=base if base != BaseImage(None, None) else None)


def open_sbom(data: bytes, sbom: Sbom) -> tuple[bytes, str]:
    """Return the document in a stored blob, and its media type. Raises SignatureError: it has none."""
    if not sbom.attested:
        return data, sbom.media_type
    predicate = _unverified(data).predicate
    # `cosign attest --type spdx` wraps a document that is not JSON.
    text = predicate.get("Data") if isinstance(predicate, dict) else predicate
    if isinstance(text, str):
        return text.encode(), _MEDIA_TYPES.get((sbom.format, _encoding(text.encode())), sbom.media_type)
    if not isinstance(predicate, dict):
        raise SignatureError("with a predicate that is no bill of materials")
    return json.dumps(predicate, ensure_ascii=False, separators=(",", ":")).encode(), sbom.media_type


def _in_statement(layer: Mapping[str, Any], annotations: Mapping[str, Any], data: bytes) -> ImageFacts:
    """Return what a statement states, signed or not."""
    named = next((annotations[name] for name in _PREDICATE_TYPES if annotations.get(name)), "")
    if named in PROVENANCE_PREDICATES and len(data) <= MAX_PROVENANCE_BYTES:
        try:
            return ImageFacts(provenance=read_provenance(_unverified(data)))
        except SignatureError:
            return ImageFacts()
    # Types end with versions: https://spdx.dev/Document/v2.3
    format_ = next((each for prefix, each in _PREDICATES.items() if named.startswith(prefix)), None)
    if format_ is None:
        return ImageFacts()
    media_type = _MEDIA_TYPES[format_, "json"]
    return ImageFacts((Sbom(format_, Digest.parse(layer["digest"]), media_type, len(data), attested=True),))


def _in_document(layer: Mapping[str, Any], artifact_type: object, data: bytes) -> ImageFacts:
    """Return a bill of materials that is attached as it is."""
    named = f"{layer['mediaType']} {artifact_type}"
    format_ = next((each for each in SbomFormat if each.value in named), None)
    media_type = _MEDIA_TYPES.get((format_, _encoding(data))) if format_ is not None else None
    if format_ is None or media_type is None:
        return ImageFacts()
    return ImageFacts((Sbom(format_, Digest.parse(layer["digest"]), media_type, len(data), attested=False),))


def _unverified(data: bytes) -> Statement:
    """Read a statement in a bundle, in an envelope, or alone. Raises SignatureError."""
    fields = parse(data, "the attestation")
    envelope = fields.get("dsseEnvelope", fields)
    if isinstance(envelope, dict) and "payload" in envelope:
        data = decode_base64(envelope["payload"], "a payload")
    return read_statement(IN_TOTO, data)


def _encoding(document: bytes) -> str:
    start = document[:64].removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return {b"{": "json", b"<": "xml"}.get(start, "text")


def _is_shown(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= MAX_CHARS and text.isprintable()


def _is_digest(text: object) -> bool:
    try:
        return isinstance(text, str) and bool(Digest.parse(text))
    except DigestError:
        return False
