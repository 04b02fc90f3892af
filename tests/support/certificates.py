"""Certificate authorities of the tests' own, and certificates of every kind, good and bad."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class CertificateFiles:
    """A certificate with its private key and, when known, the CA that others verify it by."""

    certificate: Path
    key: Path
    ca: Path

    def trusting(self, client: "CertificateFiles | None" = None) -> ssl.SSLContext:
        """Return a client's context that trusts this certificate's CA and shows `client`'s certificate."""
        context = ssl.create_default_context(cafile=self.ca)
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
        return context

    @property
    def der(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(self.certificate.read_text())


class TestCa:
    """A CA in a folder; P-256 throughout."""

    __test__ = False

    def __init__(self, folder: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self.folder = folder
        self.key = key
        self.certificate = certificate
        self.path = folder / "ca.crt"

    @classmethod
    def create(cls, folder: Path, name: str = "Test CA") -> Self:
        folder.mkdir(parents=True, exist_ok=True)
        key = new_key()
        subject = _name(name)
        certificate = (
            _builder(subject, subject, key.public_key(), datetime.now(UTC) + 24 * HOUR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        (folder / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(folder, key, certificate)

    def issue(
        self,
        name: str,
        *,
        uris: Sequence[str] = (),
        hosts: Sequence[str] = (),
        purposes: Sequence[x509.ObjectIdentifier] = CLIENT,
        expires_in: timedelta = HOUR,
        ca: bool = False,
        extra: x509.ExtensionType | None = None,
    ) -> CertificateFiles:
        """Issue a certificate to files named after `name`.

        Args:
            hosts: Addresses, and DNS names, that a server is reached at.
            extra: A further extension, critical.
        """
        key = new_key()
        names = [*map(x509.UniformResourceIdentifier, uris), *map(_host, hosts)]
        expires = datetime.now(UTC) + expires_in
        builder = _builder(_name(name), self.certificate.subject, key.public_key(), expires)
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if extra is not None:
            builder = builder.add_extension(extra, critical=True)
        certificate = builder.sign(self.key, hashes.SHA256())
        files = CertificateFiles(self.folder / f"{name}.crt", self.folder / f"{name}.key", self.path)
        files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files.key.write_bytes(key_pem(key))
        files.key.chmod(0o600)
        return files


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(key: PublicKeyTypes) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signing_request(key: object, name: str = "any name") -> str:
    """Return a PEM request of any key."""
    digest = None if type(key).__name__.startswith("Ed") else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(name))
    return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM).decode()  # type: ignore[arg-type]


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(datetime.now(UTC), not_after) - HOUR)
        .not_valid_after(not_after)
    )
