"""A Sigstore instance of the tests' own: certificate authority, certificate log and signature log.

It issues what Fulcio, its certificate transparency log (RFC 6962) and Rekor would, without a network.
"""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.signing import BUNDLE, encoded, new_key, pae, sign

SIGNED_AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
LIFE = timedelta(minutes=10)

_SCTS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_P256 = "PKIX_ECDSA_P256_SHA_256"


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def identified(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(spki(key)).digest()


def utf8(text: str) -> bytes:
    data = text.encode()
    assert len(data) < 128
    return b"\x0c" + bytes([len(data)]) + data


def sized(data: bytes, width: int) -> bytes:
    return len(data).to_bytes(width, "big") + data


def canonical(document: dict[str, Any]) -> bytes:
    """Return canonical JSON (RFC 8785), which is as simple as this for ASCII without floats."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


@dataclass
class SigstoreInstance:
    """A certificate authority and two logs, each with its key."""

    authority_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    certificate_log: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    signature_log: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    def __post_init__(self) -> None:
        name = x509.Name.from_rfc4514_string("CN=authority,O=tests")
        key = self.authority_key
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(SIGNED_AT - timedelta(days=365))
        builder = builder.not_valid_after(SIGNED_AT + timedelta(days=3650))
        builder = builder.add_extension(x509.BasicConstraints(True, 0), True)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        self.authority = builder.add_extension(identifier, False).sign(key, hashes.SHA256())

    @property
    def trusted_root(self) -> dict[str, Any]:
        valid = {"start": "2020-01-01T00:00:00Z"}

        def log(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
            return {
                "baseUrl": "https://log.example",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {"rawBytes": encoded(spki(key)), "keyDetails": _P256, "validFor": valid},
                "logId": {"keyId": encoded(identified(key))},
            }

        root = encoded(self.authority.public_bytes(Encoding.DER))
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.signature_log)],
            "ctlogs": [log(self.certificate_log)],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "tests", "commonName": "authority"},
                    "uri": "https://authority.example",
                    "certChain": {"certificates": [{"rawBytes": root}]},
                    "validFor": valid,
                }
            ],
        }

    def certify(
        self, key: ec.EllipticCurvePrivateKey, identity: str, issuer: str, *, logged: bool = True
    ) -> x509.Certificate:
        """Issue a certificate for ten minutes, as Fulcio does for a proven identity."""
        builder = (
            x509.CertificateBuilder()
            .issuer_name(self.authority.subject)
            .subject_name(x509.Name([]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(SIGNED_AT)
            .not_valid_after(SIGNED_AT + LIFE)
        )
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        name = x509.UniformResourceIdentifier(identity) if "://" in identity else x509.RFC822Name(identity)
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority_key.public_key())
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (usage, True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (above, False),
            (x509.SubjectAlternativeName([name]), True),
            (x509.UnrecognizedExtension(_ISSUER, utf8(issuer)), False),
        ]
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        if logged:
            before = builder.sign(self.authority_key, hashes.SHA256())
            proof = self._timestamp(before.tbs_certificate_bytes)
            builder = builder.add_extension(x509.UnrecognizedExtension(_SCTS, proof), False)
        return builder.sign(self.authority_key, hashes.SHA256())

    def _timestamp(self, tbs: bytes) -> bytes:
        """Return the extension with the certificate log's promise (RFC 6962, section 3.2 and 3.3)."""
        at = int(SIGNED_AT.timestamp() * 1000).to_bytes(8, "big")
        entry = b"\x00\x01" + identified(self.authority_key) + sized(tbs, 3)
        made = sign(self.certificate_log, b"\x00\x00" + at + entry + b"\x00\x00")
        promise = b"\x00" + identified(self.certificate_log) + at + b"\x00\x00" + b"\x04\x03" + sized(made, 2)
        listed = sized(sized(promise, 2), 2)
        return (
            b"\x04" + (bytes([len(listed)]) if len(listed) < 128 else b"\x81" + bytes([len(listed)])) + listed
        )

    def bundle(
        self,
        payload: bytes,
        identity: str,
        issuer: str,
        *,
        logged: bool = True,
        at: datetime = SIGNED_AT + timedelta(minutes=1),
    ) -> dict[str, Any]:
        """Sign a statement, log it, and return the bundle."""
        key = new_key()
        certificate = self.certify(key, identity, issuer, logged=logged)
        made = sign(key, pae(payload))
        pem = certificate.public_bytes(Encoding.PEM)
        body = {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": "0" * 64},
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "signatures": [{"signature": encoded(made), "verifier": encoded(pem)}],
            },
        }
        envelope = {
            "payload": encoded(payload),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": encoded(made)}],
        }
        return {
            "mediaType": BUNDLE,
            "verificationMaterial": {
                "certificate": {"rawBytes": encoded(certificate.public_bytes(Encoding.DER))},
                "tlogEntries": [self._entry(canonical(body), at)],
            },
            "dsseEnvelope": envelope,
        }

    def _entry(self, body: bytes, at: datetime) -> dict[str, Any]:
        """Return the entry of a signature log with this entry only: its leaf is the root of the tree."""
        log, time = self.signature_log, int(at.timestamp())
        leaf = hashlib.sha256(b"\x00" + body).digest()
        promised = {
            "body": encoded(body),
            "integratedTime": time,
            "logID": identified(log).hex(),
            "logIndex": 0,
        }
        note = f"log.example\n1\n{encoded(leaf)}\n"
        signed = base64.b64encode(identified(log)[:4] + sign(log, note.encode())).decode()
        return {
            "logIndex": "0",
            "logId": {"keyId": encoded(identified(log))},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(time),
            "inclusionPromise": {"signedEntryTimestamp": encoded(sign(log, canonical(promised)))},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": encoded(leaf),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": f"{note}\n\N{EM DASH} log.example {signed}\n"},
            },
            "canonicalizedBody": encoded(body),
        }
