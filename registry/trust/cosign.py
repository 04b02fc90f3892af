"""Signatures that cosign made with a key: simple signing (cosign 2) and Sigstore bundles (cosign 3).

Sources: cosign's specs/SIGNATURE_SPEC.md; Sigstore's bundle (protobuf-specs, sigstore_bundle.proto); DSSE
(protocol.md); in-toto Statement (attestation, spec/v1/statement.md).
"""

from collections.abc import Mapping
from typing import Any, Final

from registry.errors import DocumentError, SignatureError
from registry.oci.strict_json import parse_object
from registry.trust.encoding import decode_base64
from registry.trust.keys import PublicKey, verify_signature
from registry.trust.signatures import SIGN_PREDICATE, SigstoreBundle, SimpleSigning, Subject

MAX_SUBJECTS: Final = 128

_SIMPLE_TYPE: Final = "cosign container image signature"
_IN_TOTO: Final = "application/vnd.in-toto+json"
_STATEMENTS: Final = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
_OTHER_IMAGE: Final = "for another image"


def verify_simple_signing(signature: SimpleSigning, key: PublicKey, subject: Subject) -> None:
    """Verify a signature of cosign 2. Raises SignatureError."""
    verify_signature(key, decode_base64(signature.signature, "a signature"), signature.payload)
    critical = _member(_parse(signature.payload, "the payload"), "critical", "the payload")
    if critical.get("type") != _SIMPLE_TYPE:
        raise SignatureError("with a payload of another type than cosign's")
    image = _member(critical, "image", "the payload")
    if image.get("docker-manifest-digest") != str(subject.digest):
        raise SignatureError(_OTHER_IMAGE)


def verify_bundle(bundle: SigstoreBundle, key: PublicKey, subject: Subject) -> None:
    """Verify a Sigstore bundle that was made with a key. Raises SignatureError."""
    fields = parse_bundle(bundle)
    material = _member(fields, "verificationMaterial", "the bundle")
    if "publicKey" not in material or {"certificate", "x509CertificateChain"} & material.keys():
        raise SignatureError("by a certificate, not by a key")
    if "dsseEnvelope" in fields:
        envelope = _member(fields, "dsseEnvelope", "the bundle")
        signatures = envelope.get("signatures")
        if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
            raise SignatureError("with an envelope that does not have exactly one signature")
        payload = decode_base64(envelope.get("payload"), "a payload")
        signature = decode_base64(signatures[0].get("sig"), "a signature")
        verify_signature(key, signature, _pre_authentication(envelope.get("payloadType"), payload))
        verify_statement(envelope.get("payloadType"), payload, subject)
    else:
        message = _member(fields, "messageSignature", "the bundle")
        verify_signature(key, decode_base64(message.get("signature"), "a signature"), subject.data)


def parse_bundle(bundle: SigstoreBundle) -> Mapping[str, Any]:
    """Parse a bundle with exactly one content. Raises SignatureError."""
    fields = _parse(bundle.data, "the bundle")
    if ("dsseEnvelope" in fields) == ("messageSignature" in fields):
        raise SignatureError("with a bundle that does not have exactly one content")
    return fields


def verify_statement(payload_type: object, payload: bytes, subject: Subject) -> None:
    """Check that a verified statement is cosign's signature of the subject. Raises SignatureError.

    Attestations, for example of vulnerabilities, are statements too, and approve nothing.
    """
    if payload_type != _IN_TOTO:
        raise SignatureError("with a payload of another type than in-toto's")
    statement = _parse(payload, "the statement")
    if statement.get("_type") not in _STATEMENTS:
        raise SignatureError("with a statement of another type than in-toto's")
    if statement.get("predicateType") != SIGN_PREDICATE:
        raise SignatureError("which is an attestation, not a signature of the image")
    subjects = statement.get("subject")
    if not isinstance(subjects, list) or len(subjects) > MAX_SUBJECTS:
        raise SignatureError(f"with a statement that does not have 1 to {MAX_SUBJECTS} subjects")
    digests = [entry.get("digest") for entry in subjects if isinstance(entry, dict)]
    name, value = subject.digest.algorithm, subject.digest.hex
    if not any(isinstance(digest, dict) and digest.get(name) == value for digest in digests):
        raise SignatureError(_OTHER_IMAGE)


def _pre_authentication(payload_type: object, payload: bytes) -> bytes:
    """Return the bytes that a DSSE signature covers (DSSE, protocol.md, "PAE")."""
    if not isinstance(payload_type, str):
        raise SignatureError("with a payload of another type than in-toto's")
    kind = payload_type.encode(errors="replace")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _parse(data: bytes, what: str) -> Mapping[str, Any]:
    try:
        return parse_object(data, what)
    except DocumentError as error:
        raise SignatureError(f"unreadable: {error}") from None


def _member(fields: Mapping[str, Any], name: str, what: str) -> Mapping[str, Any]:
    value = fields.get(name)
    if not isinstance(value, dict):
        raise SignatureError(f"unreadable: {what} has no {name}")
    return value
