"""Signatures that cosign made with a key: simple signing (cosign 2) and Sigstore bundles (cosign 3).

Sources: cosign's specs/SIGNATURE_SPEC.md; Sigstore's bundle (protobuf-specs, sigstore_bundle.proto).
"""

from collections.abc import Mapping
from typing import Any, Final

from registry.errors import SignatureError
from registry.trust.encoding import decode_base64
from registry.trust.keys import PublicKey, verify_signature
from registry.trust.signatures import SIGN_PREDICATE, SigstoreBundle, SimpleSigning, Subject
from registry.trust.statements import OTHER_IMAGE, Statement, member, open_envelope, parse

_SIMPLE_TYPE: Final = "cosign container image signature"


def verify_simple_signing(signature: SimpleSigning, key: PublicKey, subject: Subject) -> None:
    """Verify a signature of cosign 2. Raises SignatureError."""
    verify_signature(key, decode_base64(signature.signature, "a signature"), signature.payload)
    critical = member(parse(signature.payload, "the payload"), "critical", "the payload")
    if critical.get("type") != _SIMPLE_TYPE:
        raise SignatureError("with a payload of another type than cosign's")
    image = member(critical, "image", "the payload")
    if image.get("docker-manifest-digest") != str(subject.digest):
        raise SignatureError(OTHER_IMAGE)


def verify_bundle(bundle: SigstoreBundle, key: PublicKey, subject: Subject) -> None:
    """Verify a Sigstore bundle that was made with a key. Raises SignatureError."""
    statement = open_bundle(bundle, key, subject)
    if statement is not None:
        verify_statement(statement, subject)


def open_bundle(bundle: SigstoreBundle, key: PublicKey, subject: Subject) -> Statement | None:
    """Verify the signature of a bundle that was made with a key.

    Returns:
        The signed statement, whose subject is not checked; None if the bundle signs the subject itself.

    Raises:
        SignatureError: The bundle is not valid, or not by this key.
    """
    fields = parse_bundle(bundle)
    material = member(fields, "verificationMaterial", "the bundle")
    if "publicKey" not in material or {"certificate", "x509CertificateChain"} & material.keys():
        raise SignatureError("by a certificate, not by a key")
    if "dsseEnvelope" in fields:
        return open_envelope(member(fields, "dsseEnvelope", "the bundle"), key)
    message = member(fields, "messageSignature", "the bundle")
    verify_signature(key, decode_base64(message.get("signature"), "a signature"), subject.data)
    return None


def parse_bundle(bundle: SigstoreBundle) -> Mapping[str, Any]:
    """Parse a bundle with exactly one content. Raises SignatureError."""
    fields = parse(bundle.data, "the bundle")
    if ("dsseEnvelope" in fields) == ("messageSignature" in fields):
        raise SignatureError("with a bundle that does not have exactly one content")
    return fields


def verify_statement(statement: Statement, subject: Subject) -> None:
    """Check that a verified statement is cosign's signature of the subject. Raises SignatureError.

    Attestations, for example of vulnerabilities, are statements too, and approve nothing.
    """
    if statement.predicate_type != SIGN_PREDICATE:
        raise SignatureError("which is an attestation, not a signature of the image")
    statement.check_subject(subject)
