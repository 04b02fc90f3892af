"""Signatures as registries store them, before they are verified."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from registry.oci.documents import Descriptor, parse_artifact
from registry.oci.strict_json import parse_object
from storage.digest import Digest

MAX_SIGNATURES: Final = 32
MAX_SIGNATURE_BYTES: Final = 256 << 10
"""Size limit of one payload, bundle or envelope."""

BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIMPLE_SIGNING_TYPE: Final = "application/vnd.dev.cosign.artifact.sig.v1+json"
NOTATION_TYPE: Final = "application/vnd.cncf.notary.signature"
OF_ANOTHER_KIND: Final = "of another kind than the policy's rules"
"""Why a verifier refuses signatures that it does not read."""

SIGN_PREDICATE: Final = "https://sigstore.dev/cosign/sign/v1"

PROVENANCE_PREDICATES: Final = ("https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2")
DSSE_TYPE: Final = "application/vnd.dsse.envelope.v1+json"

_PAYLOAD_TYPE: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
_SIGNATURE: Final = "dev.cosignproject.cosign/signature"
_CERTIFICATE: Final = "dev.sigstore.cosign/certificate"
_PREDICATE: Final = "dev.sigstore.bundle.predicateType"


@dataclass(frozen=True, slots=True)
class Subject:
    """A manifest or an index, which signatures sign."""

    digest: Digest
    data: bytes


@dataclass(frozen=True, slots=True)
class SimpleSigning:
    """A signature of cosign 2: a payload that names the image, and its signature in base64.

    Attributes:
        keyless: Whether a certificate is beside it.
    """

    payload: bytes
    signature: str
    keyless: bool


@dataclass(frozen=True, slots=True)
class SigstoreBundle:
    """A signature of cosign 3: a Sigstore bundle."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Attestation:
    """An attestation of cosign 2: a DSSE envelope.

    Attributes:
        keyless: Whether a certificate is beside it.
    """

    data: bytes
    keyless: bool


@dataclass(frozen=True, slots=True)
class NotationEnvelope:
    """A signature of the Notary Project, in JWS or COSE."""

    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class UnreadableSignature:
    """A signature that is missing in part, or over a limit."""

    reason: str


Signature = SimpleSigning | SigstoreBundle | Attestation | NotationEnvelope | UnreadableSignature


@dataclass(frozen=True, slots=True)
class Wanted:
    """Kinds of signatures that a policy's rules read.

    Attributes:
        cosign: Signatures of cosign.
        notation: Envelopes of the Notary Project.
        provenance: Attestations of provenance.
    """

    cosign: bool = False
    notation: bool = False
    provenance: bool = False


@dataclass(frozen=True, slots=True)
class SimpleSigningEntry:
    """Where the payload of a signature of cosign 2 is; the signature is in the manifest's annotations."""

    payload: Descriptor
    signature: str
    keyless: bool


def simple_signing_entries(manifest: bytes, content_type: str | None) -> list[SimpleSigningEntry]:
    """Return the signatures in a manifest of cosign 2. Raises DocumentError.

    A payload that was signed with two keys is one blob with two entries.
    """
    found = []
    payloads = {str(blob.digest): blob for blob in parse_artifact(manifest, content_type).blobs}
    for layer in parse_object(manifest, "the signature")["layers"]:
        annotations = layer.get("annotations") or {}
        signature = annotations.get(_SIGNATURE) if isinstance(annotations, dict) else None
        if layer["mediaType"] == _PAYLOAD_TYPE and isinstance(signature, str):
            payload = payloads[layer["digest"]]
            found.append(SimpleSigningEntry(payload, signature, _CERTIFICATE in annotations))
    return found


@dataclass(frozen=True, slots=True)
class AttestationEntry:
    """Where an attestation of cosign 2 is."""

    envelope: Descriptor
    keyless: bool


def provenance_entries(manifest: bytes, content_type: str | None) -> list[AttestationEntry]:
    """Return the attestations of provenance in a manifest of cosign 2. Raises DocumentError."""
    found = []
    envelopes = {str(blob.digest): blob for blob in parse_artifact(manifest, content_type).blobs}
    for layer in parse_object(manifest, "the attestation")["layers"]:
        annotations = layer.get("annotations") or {}
        predicate = annotations.get("predicateType")
        if layer["mediaType"] == DSSE_TYPE and predicate in (None, *PROVENANCE_PREDICATES):
            found.append(AttestationEntry(envelopes[layer["digest"]], bool(annotations.get(_CERTIFICATE))))
    return found


def may_be_signature(referrer: Mapping[str, Any], wanted: Wanted) -> bool:
    """Return whether an entry of a list of referrers may be a signature of the wanted kinds.

    Lists of old registries do not name types. Bundles of other predicates are other attestations.
    """
    artifact_type = referrer.get("artifactType")
    annotations = referrer.get("annotations")
    predicate = annotations.get(_PREDICATE) if isinstance(annotations, dict) else None
    if artifact_type == BUNDLE_TYPE:
        signs = wanted.cosign and predicate in (None, SIGN_PREDICATE)
        return signs or (wanted.provenance and predicate in (None, *PROVENANCE_PREDICATES))
    kinds = {SIMPLE_SIGNING_TYPE: wanted.cosign, NOTATION_TYPE: wanted.notation}
    return not artifact_type or (isinstance(artifact_type, str) and kinds.get(artifact_type, False))
