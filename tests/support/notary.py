"""Signatures of the Notary Project after its specification, and certificates for them."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from jwt.algorithms import get_default_algorithms


class Validity(TypedDict):
    """Validity of a certificate."""

    since: datetime
    until: datetime


NOW = datetime(2026, 12, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ALWAYS: Validity = {"since": datetime(2020, 1, 1, tzinfo=UTC), "until": datetime(2100, 1, 1, tzinfo=UTC)}
PAYLOAD = "application/vnd.cncf.notary.payload.v1+json"
COSE_ALGORITHMS = {"ES256": -7, "ES384": -35, "ES512": -36, "PS256": -37, "PS384": -38, "PS512": -39}

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def subject(name: str) -> x509.Name:
    return x509.Name.from_rfc4514_string(f"CN={name},O=Acme,ST=WA,C=US")


@dataclass(frozen=True)
class Signer:
    """A key with its certificate chain, leaf first."""

    key: Key
    chain: tuple[x509.Certificate, ...]

    @property
    def root_pem(self) -> str:
        return self.chain[-1].public_bytes(Encoding.PEM).decode()

    @property
    def chain_pem(self) -> bytes:
        return b"".join(each.public_bytes(Encoding.PEM) for each in self.chain)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def ders(self) -> list[bytes]:
        return [each.public_bytes(Encoding.DER) for each in self.chain]


Extensions = Sequence[tuple[x509.ExtensionType, bool]]


def usage(*, signs: bool = True, issues: bool = False, encrypts: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(signs, False, encrypts, False, False, issues, issues, False, False)


LEAF: Extensions = (
    (usage(), True),
    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
)
CA: Extensions = ((x509.BasicConstraints(True, None), True), (usage(signs=False, issues=True), True))


def issue(
    name: str,
    key: Key,
    issuer: tuple[x509.Name, Key] | None = None,
    extensions: Extensions = LEAF,
    *,
    since: datetime = NOW - DAY,
    until: datetime = NOW + DAY,
    hash_: hashes.SHA224 | hashes.SHA256 | None = None,
) -> x509.Certificate:
    issuing, with_key = issuer or (subject(name), key)
    builder = x509.CertificateBuilder(issuing, subject(name), key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(since).not_valid_after(until)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(with_key, hash_ or hashes.SHA256())


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def signer(name: str = "release", key: Key | None = None, **leaf: Any) -> Signer:  # noqa: ANN401 (of `issue`)
    """Return a signer below a new root."""
    root_key, key = new_key(), key or new_key()
    root = issue("root", root_key, extensions=CA, **ALWAYS)
    return Signer(key, (issue(name, key, (root.subject, root_key), **leaf), root))


def algorithm_for(key: Key) -> str:
    sizes = {2048: "PS256", 3072: "PS384", 4096: "PS512", 256: "ES256", 384: "ES384", 521: "ES512"}
    return sizes.get(key.key_size, "PS256")


def target(digest: str, size: int, **more: object) -> bytes:
    artifact = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size}
    return json.dumps({"targetArtifact": artifact | more}).encode()


def headers(**changes: object) -> dict[str, object]:
    """Return the signed attributes; `expiry` and others without the prefix of their names."""
    known = {"signingScheme": "notary.x509", "signingTime": NOW.replace(microsecond=0), **changes}
    return {f"io.cncf.notary.{name}": value for name, value in known.items() if value is not None}


def url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jws(
    by: Signer,
    payload: bytes,
    attributes: Mapping[str, object] | None = None,
    *,
    critical: Sequence[str] = ("io.cncf.notary.signingScheme",),
    algorithm: str | None = None,
    payload_type: str = PAYLOAD,
    chain: Sequence[bytes] | None = None,
) -> bytes:
    named = algorithm or algorithm_for(by.key)
    protected = {"alg": named, "cty": payload_type, "crit": list(critical), **(attributes or headers())}
    text = json.dumps(protected, default=lambda time: time.isoformat().replace("+00:00", "Z"))
    signed = f"{url64(text.encode())}.{url64(payload)}"
    made = get_default_algorithms()[algorithm_for(by.key)].sign(signed.encode(), by.key)
    ders = by.ders if chain is None else chain
    document = {
        "payload": url64(payload),
        "protected": url64(text.encode()),
        "header": {"x5c": [base64.b64encode(der).decode() for der in ders]},
        "signature": url64(made),
    }
    return json.dumps(document).encode()


def cose(
    by: Signer,
    payload: bytes,
    attributes: Mapping[str, object] | None = None,
    *,
    critical: Sequence[str] = ("io.cncf.notary.signingScheme",),
    algorithm: str | None = None,
    payload_type: str = PAYLOAD,
    chain: Sequence[bytes] | None = None,
) -> bytes:
    named = algorithm or algorithm_for(by.key)
    times = {
        name: cbor2.CBORTag(1, int(value.timestamp())) if isinstance(value, datetime) else value
        for name, value in (attributes or headers()).items()
    }
    labelled: dict[Any, Any] = {1: COSE_ALGORITHMS[named], 2: list(critical), 3: payload_type}
    protected = cbor2.dumps(labelled | times)
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    made = get_default_algorithms()[algorithm_for(by.key)].sign(signed, by.key)
    unprotected = {33: list(by.ders if chain is None else chain)}
    return cbor2.dumps(cbor2.CBORTag(18, [protected, unprotected, payload, made]))


ENVELOPES: dict[str, tuple[str, Callable[..., bytes]]] = {
    "JWS": ("application/jose+json", jws),
    "COSE": ("application/cose", cose),
}
