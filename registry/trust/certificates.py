"""Certificate chains of signers, by the Notary Project's rules.

Source: notaryproject/specifications, signature-specification.md ("Certificate Requirements") and
trust-store-trust-policy.md.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from registry.errors import SignatureError
from registry.trust.keys import MAX_PEM_CHARS

MAX_CHAIN: Final = 8
MAX_CERTIFICATE_BYTES: Final = 16 << 10

#: The only algorithm that an RSA key of each size, and an elliptic curve, may sign with.
_ALGORITHMS: Final[Mapping[int | str, str]] = {
    2048: "PS256",
    3072: "PS384",
    4096: "PS512",
    "secp256r1": "ES256",
    "secp384r1": "ES384",
    "secp521r1": "ES512",
}
_STRONG_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_NOT_FOR_CODE: Final = (
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.EMAIL_PROTECTION,
    ExtendedKeyUsageOID.TIME_STAMPING,
    ExtendedKeyUsageOID.OCSP_SIGNING,
)
_SPACES: Final = re.compile(r"(?<!\\),\s+")
_NAMES: Final[Mapping[str, x509.ObjectIdentifier]] = {
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "S": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "CN": NameOID.COMMON_NAME,
}


def load_certificates(pem: str) -> Sequence[x509.Certificate]:
    """Load trusted certificates. Raises SignatureError."""
    try:
        return x509.load_pem_x509_certificates(pem[:MAX_PEM_CHARS].encode())
    except ValueError:
        raise SignatureError("the certificate is not valid PEM: write -----BEGIN CERTIFICATE-----") from None


def parse_identity(text: str) -> Mapping[x509.ObjectIdentifier, str]:
    """Parse attributes of a subject, as `C=US, ST=WA, O=acme`. Raises SignatureError."""
    try:
        written = _SPACES.sub(",", text.removeprefix("x509.subject:").strip())
        parsed = x509.Name.from_rfc4514_string(written, _NAMES)
    except ValueError:
        raise SignatureError(
            "the identity is not valid: write attributes of the subject, as C=US, ST=WA, O=acme"
        ) from None
    attributes = list(parsed)
    wanted = {attribute.oid: str(attribute.value) for attribute in attributes}
    if not wanted or len(wanted) != len(attributes):
        raise SignatureError("the identity has no attribute, or one attribute twice")
    return wanted


def subject_of(certificate: x509.Certificate) -> str:
    """Return the subject's attributes, as RFC 4514 writes them. Raises SignatureError."""
    try:
        return certificate.subject.rfc4514_string()
    except ValueError:
        raise SignatureError("by a certificate whose subject cannot be read") from None


def has_identity(certificate: x509.Certificate, wanted: Mapping[x509.ObjectIdentifier, str]) -> bool:
    """Return whether the subject has each wanted attribute, exactly once and with this value."""
    return all(
        [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(oid)] == [value]
        for oid, value in wanted.items()
    )


def parse_chain(encoded: object) -> Sequence[x509.Certificate]:
    """Parse a chain of DER certificates, leaf first. Raises SignatureError."""
    if not isinstance(encoded, list | tuple) or not 1 <= len(encoded) <= MAX_CHAIN:
        raise SignatureError(f"without a chain of 1 to {MAX_CHAIN} certificates")
    if not all(isinstance(der, bytes) and len(der) <= MAX_CERTIFICATE_BYTES for der in encoded):
        raise SignatureError("with a certificate that is too large or not binary")
    try:
        return [x509.load_der_x509_certificate(der) for der in encoded]
    except Exception:  # noqa: BLE001 - whatever a hostile certificate makes the library raise
        raise SignatureError("with a certificate that cannot be read") from None


def check_chain(
    chain: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate], now: datetime
) -> None:
    """Check that a chain is complete, valid now, made for code signing, and contains a trusted certificate.

    Raises:
        SignatureError: It is not.
    """
    if not any(certificate in trusted for certificate in chain):
        raise SignatureError("by a certificate that does not lead to a trusted one")
    try:
        for certificate, issuer in zip(chain, (*chain[1:], chain[-1]), strict=True):
            certificate.verify_directly_issued_by(issuer)
        for position, certificate in enumerate(chain):
            _check_times(certificate, now)
            _check_hash(certificate)
            if position:
                _check_ca(certificate, position - 1)
        _check_leaf(chain[0])
    except SignatureError:
        raise
    except Exception:  # noqa: BLE001 - whatever a hostile certificate makes the library raise
        raise SignatureError("with certificates that do not form a chain") from None


def algorithm_of(certificate: x509.Certificate) -> str:
    """Return the only signature algorithm that is allowed for a certificate's key. Raises SignatureError."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise SignatureError("by a key of an unsupported kind") from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in _ALGORITHMS:
        return _ALGORITHMS[key.key_size]
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _ALGORITHMS:
        return _ALGORITHMS[key.curve.name]
    raise SignatureError("by a key of an unsupported kind or size")


def _check_times(certificate: x509.Certificate, now: datetime) -> None:
    if now > certificate.not_valid_after_utc:
        raise SignatureError("by a certificate that has expired")
    if now < certificate.not_valid_before_utc:
        raise SignatureError("by a certificate that is not valid yet")


def _check_hash(certificate: x509.Certificate) -> None:
    if not isinstance(certificate.signature_hash_algorithm, _STRONG_HASHES):
        raise SignatureError("by a certificate that was signed with a weak hash")


def _check_ca(certificate: x509.Certificate, below: int) -> None:
    """Check an issuing certificate with this number of issuing certificates below it."""
    constraints, usage = _constraints(certificate), _usage(certificate)
    if constraints is None or not constraints.value.ca or not usage.key_cert_sign:
        raise SignatureError("with a chain in which a certificate may not issue others")
    if not constraints.critical:
        raise SignatureError("with a chain in which the basic constraints of an issuer are not critical")
    if constraints.value.path_length is not None and constraints.value.path_length < below:
        raise SignatureError("with a chain that is longer than its certificates allow")


def _check_leaf(certificate: x509.Certificate) -> None:
    constraints, usage = _constraints(certificate), _usage(certificate)
    other = (usage.key_encipherment, usage.data_encipherment, usage.key_agreement)
    issues = usage.key_cert_sign or usage.crl_sign or (constraints is not None and constraints.value.ca)
    if issues or any(other) or not usage.digital_signature:
        raise SignatureError("by a certificate that is not for signatures")
    try:
        extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if any(purpose in _NOT_FOR_CODE for purpose in extended):
        raise SignatureError("by a certificate that is not for signing code")


def _constraints(certificate: x509.Certificate) -> x509.Extension[x509.BasicConstraints] | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return None


def _usage(certificate: x509.Certificate) -> x509.KeyUsage:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound:
        raise SignatureError("by a certificate without a key usage") from None
    if not extension.critical:
        raise SignatureError("by a certificate whose key usage is not critical")
    return extension.value
