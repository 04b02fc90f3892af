"""Certificate authority for nodes.

<folder>/key.pem           0600   P-256
<folder>/certificate.pem   0600   self-signed, 10 years, for node certificates only
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from auth.errors import KeyMaterialError
from auth.keyfiles import read_private, write_private
from auth.nodes.requests import NodePublicKey
from auth.peer import NODE_URN

NODE_LIFETIME = timedelta(hours=24)

_LIFETIME = timedelta(days=3653)
_BACKDATED = timedelta(hours=1)  # node clocks may be behind


class NodeCA:
    """CA certificate and its private key.

    Attributes:
        certificate: The CA's own certificate.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self.certificate = certificate

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Create a CA.

        Raises:
            KeyMaterialError: The folder already contains one.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _self_signed(key)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(folder / "key.pem", pem)
        write_private(folder / "certificate.pem", certificate.public_bytes(serialization.Encoding.PEM))
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a CA.

        Raises:
            KeyMaterialError: A file is missing, invalid or readable by others, or key and certificate do not
                match.
        """
        try:
            key = serialization.load_pem_private_key(read_private(folder / "key.pem"), password=None)
            certificate = x509.load_pem_x509_certificate(read_private(folder / "certificate.pem"))
        except (ValueError, TypeError):
            raise KeyMaterialError(f"{folder} contains no valid CA: restore it from a backup") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise KeyMaterialError(
                f"the key and the certificate in {folder} do not match: restore both from a backup"
            )
        return cls(key, certificate)

    @property
    def certificate_pem(self) -> bytes:
        """The CA certificate, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        key: NodePublicKey,
        node_id: str,
        now: datetime,
        *,
        lifetime: timedelta = NODE_LIFETIME,
    ) -> x509.Certificate:
        """Issue a node's client certificate (docs/tokens.md, "Binding").

        Only the URI contains the node's id, because a common name may be too short for it.

        Args:
            key: Public key from a verified request.
            node_id: Id of the node.
            now: Current time; the certificate is valid from an hour before.
            lifetime: Validity from now.
        """
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Crisper node")])
        uri = x509.UniformResourceIdentifier(f"{NODE_URN}{node_id}")
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(authority, critical=False)
            .sign(self._key, hashes.SHA256())
        )


def load_certificate(folder: Path) -> x509.Certificate:
    """Read the certificate of a CA, without its key.

    Raises:
        KeyMaterialError: The file is missing or invalid.
    """
    path = folder / "certificate.pem"
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise KeyMaterialError(f"{path} cannot be read ({error.strerror})") from None
    except ValueError:
        raise KeyMaterialError(f"{path} is not a certificate: restore it from a backup") from None


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Crisper node CA")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
