"""Verification of client certificates.

Certificates from the TLS layer and from a proxy's header are always verified here. The TLS layer verified a
certificate only when the connection was made, and a proxy may not verify certificates at all.
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Self

from cachetools import LRUCache
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from auth.errors import KeyMaterialError
from auth.peer import NODE_URN, Fault, PeerCertificate, RejectedCertificate, ShownCertificate, thumbprint

_CACHED = 4096
_MAX_DER_BYTES = 16 << 10
_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)


class Issuers:
    """CA certificates that are trusted as direct issuers.

    Chains are not followed. If an intermediate CA issues the nodes' certificates, the operator lists the
    intermediate (docs/adr/0020-node-certificate-verification.md).
    """

    def __init__(self, certificates: Sequence[x509.Certificate]) -> None:
        self._certificates = tuple(certificates)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a PEM file of one or more CA certificates.

        Raises:
            KeyMaterialError: It cannot be read, or contains a certificate that is not a CA's.
        """
        try:
            certificates = x509.load_pem_x509_certificates(path.read_bytes())
        except OSError as error:
            raise KeyMaterialError(f"{path} cannot be read ({error.strerror})") from None
        except ValueError:
            raise KeyMaterialError(f"{path} contains no valid certificates (PEM)") from None
        if not all(_is_ca(certificate) for certificate in certificates):
            raise KeyMaterialError(f"{path} contains a certificate that is not a CA's: remove it")
        return cls(certificates)

    def __add__(self, other: "Issuers") -> "Issuers":
        return Issuers((*self._certificates, *other._certificates))

    def issued(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Return whether one of these CAs issued the certificate and is valid itself."""
        return any(
            issuer.not_valid_before_utc <= now <= issuer.not_valid_after_utc and _signed(certificate, issuer)
            for issuer in self._certificates
        )


class ClientTrust:
    """Verifies client certificates. Caches verified ones; their validity period is always checked."""

    def __init__(self, issuers: Issuers) -> None:
        self._issuers = issuers
        self._judged: LRUCache[bytes, tuple[x509.Certificate, str | None]] = LRUCache(_CACHED)

    def speaks(self, der: bytes, now: datetime) -> bool:
        """Return whether the certificate is a valid client certificate without a node id: a proxy's."""
        judged = self._judge(der, now)
        return not isinstance(judged, Fault) and judged[1] is None

    def node(self, der: bytes, now: datetime) -> ShownCertificate:
        """Verify a certificate. Returns the node that it identifies, or the reason for its rejection."""
        print_ = thumbprint(der)
        judged = self._judge(der, now)
        if isinstance(judged, Fault):
            return RejectedCertificate(judged, print_)
        certificate, node_id = judged
        if node_id is None:
            return RejectedCertificate(Fault.UNNAMED, print_)
        return PeerCertificate(
            node_id, print_, certificate.not_valid_before_utc, certificate.not_valid_after_utc
        )

    def _judge(self, der: bytes, now: datetime) -> tuple[x509.Certificate, str | None] | Fault:
        key = hashlib.sha256(der).digest()
        known = self._judged.get(key)
        if known is None:
            try:
                read = self._read(der, now)
            except ValueError:
                return Fault.MALFORMED
            if isinstance(read, Fault):
                return read
            known = self._judged[key] = read
        if now < known[0].not_valid_before_utc:
            return Fault.NOT_YET_VALID
        return Fault.EXPIRED if now > known[0].not_valid_after_utc else known

    def _read(self, der: bytes, now: datetime) -> tuple[x509.Certificate, str | None] | Fault:
        if len(der) > _MAX_DER_BYTES:
            return Fault.MALFORMED
        certificate = x509.load_der_x509_certificate(der)
        if not self._issuers.issued(certificate, now):
            return Fault.FOREIGN
        if not _for_clients(certificate):
            return Fault.WRONG_PURPOSE
        names = _node_names(certificate)
        if not names:
            return certificate, None
        if len(names) > 1 or _NODE_ID.fullmatch(names[0]) is None:
            return Fault.UNNAMED
        return certificate, names[0]


def _node_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return [uri.removeprefix(NODE_URN) for uri in uris if uri.startswith(NODE_URN)]


def _for_clients(certificate: x509.Certificate) -> bool:
    """Return whether it is an end-entity certificate for TLS clients without unknown critical extensions."""
    extensions = certificate.extensions
    if any(extension.critical and extension.oid not in _UNDERSTOOD for extension in extensions):
        return False
    if _is_ca(certificate):
        return False
    try:
        if not extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature:
            return False
    except x509.ExtensionNotFound:
        pass  # any use (RFC 5280, section 4.2.1.3)
    try:
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH in purposes


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
